"""Every fault the design answers for, on real processes: the job ends by itself, nothing lost.

Each test runs a job of 200 shards (unless it says why not) and ends with ``mtl verify`` and a
comparison with an undisturbed run. Faults are signals, lost messages, full memory, full disks.
"""

import json
import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import pytest
from fault_job import (
    LEASE_S,
    ROWS,
    SHARD_ROWS,
    WORKER,
    Job,
    Killer,
    child_of,
    stop_in_mid_shard,
    write_sentences,
)
from support import Mtl, RedisServer, Workers, pace, running_mtl, wait_until

from jobs.ledger.lifecycle import JobState
from jobs.ledger.messages import waiting
from jobs.ledger.presence import Lock, Presence

pytestmark = [pytest.mark.slow, pytest.mark.faults]


@pytest.fixture
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path_factory.mktemp("r"))
    server.start()
    yield server
    server.stop()


@pytest.fixture
def job(
    mtl: Mtl, redis_server: RedisServer, tmp_path: Path, undisturbed: pd.DataFrame
) -> Iterator[Job]:
    workers = Workers(redis_server.url, tmp_path, WORKER)
    yield Job(mtl, redis_server, workers, tmp_path, undisturbed)
    for process in workers.running:
        if process.poll() is None:
            workers.kill(process)


Recovered = Callable[[str, float], None]


# --- killed processes


def test_child_killed_in_mid_shard(job: Job, recovered: Recovered) -> None:
    worker = job.workers.start()
    job.submit()
    job.wait_for_parts()
    child = child_of(worker)
    stop_in_mid_shard(job.ledger, job.id, child.pid)
    child.kill()
    seconds = wait_until(lambda: bool(job.attempts("lost")), LEASE_S + 5, "the attempt is ended")
    recovered("prefork child SIGKILLed in mid-shard", seconds)
    job.wait_done()
    job.check()


def test_whole_worker_killed_in_mid_shard(job: Job, recovered: Recovered) -> None:
    first = job.workers.start()
    job.submit()
    job.wait_for_parts()
    stop_in_mid_shard(job.ledger, job.id, child_of(first).pid, first.pid)
    job.workers.start()
    job.workers.kill(first)
    seconds = wait_until(lambda: bool(job.attempts("lost")), LEASE_S + 5, "the lease is ended")
    recovered("whole worker SIGKILLed in mid-shard", seconds)
    job.wait_done()
    job.check()


def test_a_worker_killed_in_a_shard_of_stored_embeddings(job: Job, recovered: Recovered) -> None:
    first = job.workers.start()
    job.submit("--shard-rows", "500")
    job.wait_done()
    job.relabel()
    job.wait_for_parts(1)
    stop_in_mid_shard(job.ledger, job.id, child_of(first).pid, first.pid)
    job.workers.start()
    job.workers.kill(first)
    seconds = wait_until(lambda: bool(job.attempts("lost")), LEASE_S + 5, "the lease is ended")
    recovered("worker of a relabel job SIGKILLed in mid-shard", seconds)
    job.wait_done()
    job.check()


def holds_back_a_complete(job: Job) -> bool:
    """Have Redis hold back all writes: the worker renames its part, then waits to complete it.

    Writes go on if no part comes: where its lease could not be lengthened, a worker renames none.
    """
    client = job.redis.client()
    client.execute_command("CLIENT", "PAUSE", "60000", "WRITE")
    completed = len(job.ledger.results(job.id))
    until = time.monotonic() + LEASE_S
    while time.monotonic() < until:
        if job.parts() > completed:
            return True
        time.sleep(0.05)
    client.execute_command("CLIENT", "UNPAUSE")
    time.sleep(0.5)
    return False


def test_worker_killed_between_rename_and_complete(job: Job, recovered: Recovered) -> None:
    first = job.workers.start()
    job.submit()
    job.wait_for_parts()
    wait_until(lambda: holds_back_a_complete(job), 60, "a part that is not completed")
    lost_before = len(job.attempts("lost"))
    time.sleep(0.2)
    job.workers.kill(first)
    client = job.redis.client()
    client.execute_command("CLIENT", "KILL", "TYPE", "normal")  # with them the held-back complete
    client.execute_command("CLIENT", "UNPAUSE")
    completed = {r["part"] for r in job.ledger.results(job.id).values()}
    (orphan,) = {path.name for path in job.output.glob("part-*.parquet")} - completed
    job.workers.start()
    seconds = wait_until(
        lambda: len(job.attempts("lost")) > lost_before, LEASE_S + 5, "the lease is ended"
    )
    recovered("whole worker SIGKILLed between rename and complete", seconds)
    job.wait_done()
    assert not (job.output / orphan).exists()  # another attempt's part won
    job.check()


def test_worker_killed_between_the_last_complete_and_the_manifest(
    job: Job, recovered: Recovered
) -> None:
    first = job.workers.start()
    job.submit()
    # As if a finaliser had died with the lock in its hand: nobody can write the manifest.
    dead = Lock(job.ledger.redis, f"mtl:{{{job.id}}}:finaliser")
    assert dead.hold(LEASE_S + 60)
    wait_until(lambda: job.ledger.snapshot(job.id).settled, 60, "all shards are done")
    job.workers.kill(first)
    assert not (job.output / "_manifest.json").exists()
    assert dead.hold(LEASE_S)  # from here the lock has its usual length
    started = time.monotonic()
    job.workers.start()
    job.wait_done()
    recovered("whole worker SIGKILLed before the manifest", time.monotonic() - started)
    job.check()


def test_worker_killed_while_an_append_joins(job: Job, recovered: Recovered) -> None:
    first = job.workers.start()
    job.submit("--append", "--id-column", "n", rows=50)
    job.wait_done()
    before = (job.output / "_manifest.json").read_bytes()
    job.submit("--append", "--id-column", "n")  # the same file, grown: 1,950 rows are new
    deadline = time.monotonic() + 120
    while not any(name.startswith("part-g0002-") for name in os.listdir(job.output)):
        assert time.monotonic() < deadline
        time.sleep(0.001)
    job.workers.kill(first)
    assert (job.output / "_manifest.json").read_bytes() == before
    assert job.run("verify", job.output).code == 0
    started = time.monotonic()
    job.workers.start()
    wait_until(lambda: job.ledger.state(job.id) is JobState.DONE, 60, "the append's end")
    recovered("whole worker SIGKILLed while an append joins", time.monotonic() - started)
    assert not (job.output / "_append").exists()
    job.check()


def test_a_stopped_workers_late_complete_is_stale(job: Job, recovered: Recovered) -> None:
    first = job.workers.start()
    job.submit()
    job.wait_for_parts()
    stop_in_mid_shard(job.ledger, job.id, child_of(first).pid, first.pid)
    job.workers.start()
    wait_until(lambda: bool(job.attempts("lost")), LEASE_S + 5, "the lease is ended")
    os.killpg(first.pid, signal.SIGCONT)
    seconds = wait_until(lambda: "stale" in job.workers.logs(), 10, "it is told so")
    recovered("worker SIGSTOPped past its lease, then continued", seconds)
    job.wait_done()
    job.check()


def test_a_worker_told_to_leave_gives_its_shard_back(job: Job, recovered: Recovered) -> None:
    worker = job.workers.start()
    job.submit()
    job.wait_for_parts()
    worker.send_signal(signal.SIGTERM)
    seconds = wait_until(lambda: worker.poll() is not None, 15, "the worker leaves")
    recovered("SIGTERM to a busy worker", seconds)
    assert job.ledger.snapshot(job.id).workers == ()  # nothing waits for a lease
    # Each shard that is not done has a message, though no worker is there to send one: KEDA would
    # start none for an empty queue.
    shards = job.ledger.snapshot(job.id).shards
    client = job.redis.client()
    hinted = {shard for _, shard in waiting(client, "label", 1000)}
    assert len(hinted) == shards.total - shards.done
    job.workers.start()
    job.wait_done()
    assert not job.attempts("lost")
    job.check()


@pytest.mark.parametrize("forgotten", [True, False])
def test_a_job_forgotten_or_cancelled_under_a_worker_is_dropped_by_it_without_a_trace(
    job: Job, forgotten: bool
) -> None:
    worker = job.workers.start()
    job.submit()
    job.wait_for_parts()
    child = child_of(worker)
    stop_in_mid_shard(job.ledger, job.id, child.pid)
    # Not those in the folder: the child may have renamed a part that it has not completed.
    written = {result["part"] for result in job.ledger.results(job.id).values()}
    assert written
    if forgotten:
        job.ledger.delete(job.id)
    else:
        assert job.ledger.transition(job.id, JobState.CANCELLING)
    child.send_signal(signal.SIGCONT)
    busy = Presence(job.ledger.redis)
    wait_until(lambda: not any(map(busy.busy, busy.workers())), 30, "the worker is idle")
    if not forgotten:
        wait_until(lambda: job.ledger.state(job.id) is JobState.CANCELLED, 10, "cancelled")
        written = {result["part"] for result in job.ledger.results(job.id).values()}
    assert {path.name for path in job.output.glob("*.parquet")} == written
    assert not list(job.output.rglob(".*.tmp"))
    assert "Traceback" not in job.workers.logs()
    assert worker.poll() is None


# --- messages


def test_a_deleted_message_is_sent_again(job: Job, recovered: Recovered) -> None:
    job.submit()
    client = job.redis.client()
    messages = client.lrange("label", 0, -1)
    for message in random.Random(1).sample(messages, 20):
        assert client.lrem("label", 1, message) == 1
    job.workers.start()
    wait_until(lambda: client.llen("label") == 0, 60, "the queue is empty")
    seconds = job.wait_done()
    recovered("20 messages deleted from the queue (after the queue was empty)", seconds)
    job.check()


# --- a row that kills its worker


def test_a_row_that_kills_its_worker_every_time_is_found(job: Job, recovered: Recovered) -> None:
    rows, bad = 300, 137  # fewer rows: the pieces take the time here
    job.submit(rows=rows, long_row=bad)
    killer = Killer(job, bad)
    killer.start()
    job.workers.start()
    seconds = job.wait_done(150)
    killer.stop()
    recovered(f"a row that kills its worker every time ({killer.kills} kills)", seconds)
    job.check(errors=1, rows=rows)
    (error,) = pd.read_parquet(next((job.output / "errors").glob("*.parquet"))).to_dict("records")
    assert error["row_id"] == bad
    assert "process died" in error["reason"]
    status = json.loads(job.run("status", job.id, "--json").out)
    assert status["state"] == "partial"
    by_shard: dict[str, int] = {}
    for attempt in job.attempts("lost"):
        by_shard[attempt["shard"]] = by_shard.get(attempt["shard"], 0) + 1
    assert by_shard.pop(f"{bad // SHARD_ROWS:05d}") == 3  # exactly 3, then split
    assert max(by_shard.values()) == 3  # the single row again 3

    retried = job.run("retry", job.id, "--only-failed", "--detach")
    assert retried.code == 0, retried.err
    wait_until(lambda: (job.output / "_SUCCESS").exists(), 30, "the retry's end")
    job.check(errors=0, rows=rows, but=bad)


# --- Redis


def test_redis_killed_and_started_again(job: Job, recovered: Recovered) -> None:
    job.workers.start()
    job.workers.start()
    job.submit()
    job.wait_for_parts()
    job.redis.signal(signal.SIGKILL)
    time.sleep(2)
    job.redis.start()
    before, started = job.parts(), time.monotonic()
    wait_until(lambda: job.parts() > before + 2, 60, "work goes on")
    recovered("Redis SIGKILLed and started again (AOF)", time.monotonic() - started)
    job.wait_done(90)
    done = [a["shard"] for a in job.attempts("done")]
    assert len(done) == len(set(done))  # no finished shard was run again
    job.check()


def test_redis_out_of_reach_for_20_seconds(job: Job, recovered: Recovered) -> None:
    job.workers.start()
    job.submit()
    job.wait_for_parts()
    job.redis.signal(signal.SIGSTOP)
    time.sleep(20)
    job.redis.signal(signal.SIGCONT)
    before, started = job.parts(), time.monotonic()
    wait_until(lambda: job.parts() > before + 2, 60, "work goes on")
    recovered("Redis unreachable for 20 s", time.monotonic() - started)
    job.wait_done(90)
    assert not job.attempts("lost")  # a live worker's lease was not taken
    job.check()


def test_all_connections_reset(job: Job, recovered: Recovered) -> None:
    job.workers.start()
    job.submit()
    for _ in range(3):
        job.wait_for_parts(10)
        job.redis.client().execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    before, started = job.parts(), time.monotonic()
    wait_until(lambda: job.parts() > before + 2, 60, "work goes on")
    recovered("connections reset", time.monotonic() - started)
    job.wait_done()
    job.check()


def test_redis_full_then_not(job: Job, recovered: Recovered) -> None:
    job.workers.start()
    job.submit()
    job.wait_for_parts()
    client = job.redis.client()
    client.config_set("maxmemory", "1mb")
    wait_until(lambda: "Redis is full" in job.workers.logs(), 20, "the worker says why it waits")
    time.sleep(4)
    client.config_set("maxmemory", "0")
    before, started = job.parts(), time.monotonic()
    wait_until(lambda: job.parts() > before + 2, 60, "work goes on")
    recovered("Redis full, then not", time.monotonic() - started)
    job.wait_done(90)
    job.check()


# --- the disk


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A tmpfs of a few megabytes."""
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(disk)]
    if not shutil.which("mount") or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("needs the right to mount a tmpfs")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


def test_output_disk_full_then_space(job: Job, small_disk: Path, recovered: Recovered) -> None:
    job.folder = small_disk
    job.workers.start()
    job.submit()
    ledger = job.ledger
    wait_until(lambda: str(ledger.state(job.id)) == "paused", 60, "the job is paused")
    reason = ledger.snapshot(job.id).reason
    assert "No space left on device" in reason
    assert f"mtl retry {job.id}" in reason
    done_before = set(ledger.results(job.id))
    subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
    started = time.monotonic()
    retried = job.run("retry", job.id)
    assert retried.code == 0, retried.err
    recovered("output disk full, then space and `mtl retry`", time.monotonic() - started)
    done = [a["shard"] for a in job.attempts("done")]
    assert len(done) == len(set(done))
    assert done_before <= set(done)
    job.check()


# --- submitting


def test_a_submit_killed_in_planning_is_finished_by_the_same_command(
    job: Job, recovered: Recovered
) -> None:
    source = write_sentences(job.folder / "in.csv", ROWS)
    arguments = ("label", source, "-o", job.output, "--shard-rows", "10", "--detach", "--json")
    environment = {"MTL_REDIS_URL": job.redis.url, **WORKER}
    staged = job.output / "_work" / "shards"
    with running_mtl(*arguments, **environment) as process:
        wait_until(lambda: len(list(staged.glob("*.parquet"))) >= 20, 30, "some shards are staged")
        process.kill()
        process.wait()
    assert json.loads(job.run("jobs", "--json").out)[0]["state"] == "planning"
    started = time.monotonic()
    again = job.run(*arguments)
    assert again.code == 0, again.err
    recovered("submitter SIGKILLed in planning, same command again", time.monotonic() - started)
    job.id = json.loads(again.out)["id"]
    assert len(json.loads(job.run("jobs", "--json").out)) == 1
    job.workers.start()
    job.wait_done()
    job.check()


def test_the_same_job_submitted_twice_at_once_is_one_job(job: Job) -> None:
    source = write_sentences(job.folder / "in.csv", ROWS)
    arguments = ("label", source, "-o", job.output, "--shard-rows", "10", "--json")
    environment = {"MTL_REDIS_URL": job.redis.url, **WORKER}
    job.workers.start()
    with (
        running_mtl(*arguments, **environment) as one,
        running_mtl(*arguments, **environment) as two,
    ):
        answers = [
            json.loads(process.communicate(timeout=90 * pace())[0]) for process in (one, two)
        ]
    assert answers[0]["id"] == answers[1]["id"]
    assert answers[0]["rows"]["labelled"] == ROWS
    job.id = answers[0]["id"]
    job.check()


def test_changed_input_is_refused_with_what_differs(job: Job) -> None:
    job.submit()
    job.run("cancel", job.id)
    (job.folder / "in.csv").write_text("text,n\nother,0\n")
    retried = job.run("retry", job.id, "--detach")
    assert retried.code == 2
    assert "in.csv has changed since" in retried.err
    again = job.run(
        *("label", job.folder / "in.csv", "-o", job.output, "--detach", "--shard-rows", "10")
    )
    assert again.code == 2
    assert "begun with other content of" in again.err


# --- hanging


def test_a_hung_task_is_ended_after_the_stall_limit(job: Job, recovered: Recovered) -> None:
    job.submit()
    # A staged shard that is a pipe nobody writes to: reading it hangs, the heartbeat lives on.
    shard = job.output / "_work/shards/shard-00007.parquet"
    aside = shard.with_suffix(".aside")
    shard.rename(aside)
    os.mkfifo(shard)
    job.workers.start(MTL_STALL_S="4")
    wait_until(lambda: job.ledger.holder(job.id, "00007") is not None, 30, "the shard hangs")
    seconds = wait_until(lambda: bool(job.attempts("lost")), 15, "the attempt is ended")
    recovered("a hung task (stall limit 4 s)", seconds)
    assert "no progress within 4 s" in job.attempts("lost")[0]["reason"]
    shard.unlink()
    aside.rename(shard)
    job.wait_done()
    job.check()


# --- cancelling and priorities


def test_cancel_takes_effect_within_a_batch_and_retry_goes_on(job: Job) -> None:
    job.workers.start()
    job.submit()
    job.wait_for_parts()
    started = time.monotonic()
    cancelled = job.run("cancel", job.id, "--json")
    assert cancelled.code == 0, cancelled.err
    assert json.loads(cancelled.out)["state"] == "cancelled"
    assert time.monotonic() - started < 5 * pace()
    before = job.parts()
    time.sleep(1)
    assert job.parts() == before
    retried = job.run("retry", job.id)
    assert retried.code == 0, retried.err
    done = [a["shard"] for a in job.attempts("done")]
    assert len(done) == len(set(done))
    job.check()


@pytest.mark.parametrize("hash_seed", ["0", "2"])
def test_an_urgent_job_does_not_wait_behind_a_large_one(job: Job, hash_seed: str) -> None:
    # With seed 2, a set of the queues' names holds the low one first: kombu's own order.
    job.submit("--priority", "low")
    source = write_sentences(job.folder / "urgent.csv", 30)
    urgent = ("label", source, "-o", job.folder / "urgent", "--shard-rows", "10", "--detach")
    assert job.run(*urgent, "--priority", "high").code == 0
    job.workers.start(PYTHONHASHSEED=hash_seed)
    wait_until(lambda: (job.folder / "urgent/_SUCCESS").exists(), 60, "the urgent job's end")
    assert job.ledger.snapshot(job.id).shards.done < 10
    job.wait_done()
    job.check()


def test_worker_check_tells_a_living_worker_from_a_stopped_one(job: Job) -> None:
    worker = job.workers.start()
    wait_until(lambda: job.run("worker", "--check").code == 0, 30, "the worker answers")
    os.kill(worker.pid, signal.SIGSTOP)
    checked = job.run("worker", "--check")
    assert checked.code == 3
    assert len(checked.err.strip().splitlines()) == 1
    os.kill(worker.pid, signal.SIGCONT)
    wait_until(lambda: job.run("worker", "--check").code == 0, 30, "it answers again")
