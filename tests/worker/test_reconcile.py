"""The reconciler's rounds on a real Redis: bad jobs, full queues, workers that cannot do a job."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from click.testing import CliRunner
from specs import TRAIN_SPEC, lines, spec_for
from support import Workers, wait_until

from jobs.cli.group import main
from jobs.ledger import cancel
from jobs.ledger.ledger import Ledger
from jobs.ledger.lifecycle import JobState
from jobs.ledger.messages import Publisher, waiting
from jobs.ledger.presence import Busy, Presence
from jobs.ledger.scripts import key
from jobs.settings import Settings, settings
from worker.claim import others_may_do
from worker.finaliser import finalise_or_pause
from worker.lease.reconcile import give_up_if_nobody_can, reconcile
from worker.process.children import child_at
from worker.process.own import NAME, take_name


@pytest.fixture
def ledger(redis_url: str) -> Ledger:
    return Ledger(redis_url, Settings(lease_s=600, reconcile_s=0.05, max_attempts=2))


@pytest.fixture
def publisher(redis_url: str) -> Iterator[Publisher]:
    own = Publisher(redis_url)
    yield own
    own.close()


def run(ledger: Ledger, job: str, shards: int, publisher: Publisher | None = None) -> str:
    """A running job; its messages are sent by the publisher."""
    ledger.create(job, TRAIN_SPEC)
    names = ledger.add_shards(job, {str(n): {"rows": 4} for n in range(shards)})
    ledger.update(job, planned=1)
    ledger.transition(job, JobState.RUNNING)
    if publisher is not None:
        publisher.shards("train", "normal", job, names)
    return job


def messages(ledger: Ledger, job: str) -> list[str]:
    return [shard for name, shard in waiting(ledger.redis, "train", 1000) if name == job]


# --- bad jobs


class Forgetful(Publisher):
    """Forgets a job in the moment in which another is published: one that a round has listed."""

    ledger: Ledger

    def shards(self, *arguments: object) -> None:  # type: ignore[override]
        super().shards(*arguments)  # type: ignore[arg-type]
        self.ledger.delete("train-forgotten")


def test_no_single_job_keeps_the_others_from_being_reconciled(
    ledger: Ledger, redis_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    for job in ("train-first", "train-forgotten", "train-note", "train-shards", "train-last"):
        run(ledger, job, 1)
        time.sleep(0.002)  # jobs are served by their age
    ledger.redis.hset(key("train-note", "job"), "note", "{no JSON")
    ledger.redis.delete(key("train-shards", "pending"))
    ledger.redis.set(key("train-shards", "pending"), "no sorted set")
    ledger.redis.set(key("train-odd", "job"), "no hash")
    ledger.redis.zadd("mtl:jobs", {"train-odd": 0})
    time.sleep(0.1)
    publisher = Forgetful(redis_url)
    publisher.ledger = ledger
    reconcile(ledger, publisher, expire=True)
    publisher.close()
    assert messages(ledger, "train-first") == ["0"]
    assert messages(ledger, "train-last") == ["0"]
    assert "train-note cannot be reconciled" in caplog.text
    assert ledger.redis.keys("mtl:{train-forgotten}*") == []


@pytest.mark.slow
def test_a_worker_whose_reconciler_ends_leaves_with_a_line_and_an_exit_code(
    redis_url: str, tmp_path: Path
) -> None:
    code = (
        "from worker.lease.reconcile import Reconciler\n"
        "def end(self): raise SystemExit('as nothing should')\n"
        "Reconciler._round = end\n"
        "from worker.__main__ import main\n"
        "main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "MTL_REDIS_URL": redis_url, "MTL_STATE_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 1
    assert "mtl worker: the reconciler ended (SystemExit('as nothing should'))" in done.stderr


# --- full queues


def test_a_released_shard_gets_a_message_though_its_queue_is_full(
    ledger: Ledger, publisher: Publisher
) -> None:
    run(ledger, "train-waits", 1)
    run(ledger, "train-large", 100, publisher)
    ledger.claim("train-waits", "0", "t", "worker-a")
    ledger.release("train-waits", "0", "t", "leaving")
    reconcile(ledger, publisher, expire=True)
    assert messages(ledger, "train-waits") == ["0"]
    time.sleep(0.1)
    reconcile(ledger, publisher, expire=True)
    assert messages(ledger, "train-waits") == ["0"]  # it waits in the queue: once is enough
    assert len(messages(ledger, "train-large")) == 100


def test_a_lost_message_is_sent_again_though_its_queue_is_full(
    ledger: Ledger, publisher: Publisher
) -> None:
    run(ledger, "train-waits", 2, publisher)
    ledger.redis.rpop("train")  # whoever took it died before its claim
    time.sleep(0.1)
    run(ledger, "train-large", 100, publisher)
    ledger.redis.rpop("train")  # the second message of the first job
    reconcile(ledger, publisher, expire=True)
    assert sorted(messages(ledger, "train-waits")) == ["0", "1"]
    assert len(messages(ledger, "train-large")) == 100


def test_words_that_a_job_is_settled_do_not_pile_up(ledger: Ledger, publisher: Publisher) -> None:
    run(ledger, "train-settled", 1)
    ledger.claim("train-settled", "0", "t", "worker-a")
    assert ledger.complete("train-settled", "0", "t", {"rows": 4, "failed": 0}) == "LAST"
    for _ in range(5):
        reconcile(ledger, publisher, expire=True)
    assert ledger.redis.llen("train.high") == 1
    ledger.redis.delete("train.high")  # taken by one who died: the queue is empty
    reconcile(ledger, publisher, expire=True)
    assert ledger.redis.llen("train.high") == 1


# --- workers that cannot


def test_a_job_fails_only_when_every_worker_there_is_has_declined_it(
    ledger: Ledger, publisher: Publisher
) -> None:
    job, presence = run(ledger, "train-x", 2), Presence(ledger.redis)
    presence.announce("host:1:a", 60, ["train"], 2)
    presence.announce("host:2:b", 60, ["train", "label"])
    presence.announce("host:3:c", 60, ["label"])  # does not serve this job
    ledger.claim(job, "0", "t", "host:1:a", 1)
    assert ledger.decline(job, "0", "t", "no room in /tmp") == "OK"
    assert ledger.claim(job, "0", "u", "host:1:a", 0).answer == "DECLINED"
    time.sleep(0.2)
    reconcile(ledger, publisher, expire=True)
    assert ledger.state(job) is JobState.RUNNING
    assert ledger.claim(job, "0", "v", "host:2:b").answer == "LEASED"
    ledger.decline(job, "0", "v", "int8 runs on openvino only")
    reconcile(ledger, publisher, expire=True)
    assert ledger.state(job) is JobState.RUNNING  # another worker may be starting
    time.sleep(0.2)
    reconcile(ledger, publisher, expire=True)
    snapshot = ledger.snapshot(job)
    assert snapshot.state is JobState.FAILED
    assert snapshot.reason == "int8 runs on openvino only; no room in /tmp"
    assert (snapshot.attempts["failed"], snapshot.attempts["released"]) == (0, 2)
    ledger.reopen(job)  # `mtl retry`, when that is mended
    assert ledger.claim(job, "0", "w", "host:1:a").answer == "LEASED"


def test_a_cancelling_that_the_reconciler_ends_keeps_its_reason(
    ledger: Ledger, publisher: Publisher
) -> None:
    job = run(ledger, "train-a", 1)
    cancel.ask(ledger, job)  # and nobody waits for it
    reconcile(ledger, publisher, expire=True)
    found = ledger.snapshot(job)
    assert (found.state, found.reason) == (JobState.CANCELLED, "cancelled by its user")


def test_without_any_worker_a_declined_job_waits(ledger: Ledger) -> None:
    job = run(ledger, "train-x", 1)
    ledger.claim(job, "0", "t", "host:1:a")
    ledger.decline(job, "0", "t", "no room")
    time.sleep(0.2)
    give_up_if_nobody_can(ledger, {}, job)
    assert ledger.state(job) is JobState.RUNNING


def test_a_child_that_fails_at_what_others_do_is_found_and_named(
    ledger: Ledger, publisher: Publisher
) -> None:
    job, presence = run(ledger, "train-x", 6), Presence(ledger.redis)
    for name in ("host:1:broken", "host:2:good"):
        presence.announce(name, 60, ["train"])
    for shard in "012":
        assert ledger.claim(job, shard, f"b{shard}", "host:1:broken").answer == "LEASED"
        ledger.fail(job, shard, f"b{shard}", "CUDA error: device-side assert")
    assert ledger.claim(job, "3", "b3", "host:1:broken").answer == "DOUBTED"
    assert others_may_do(ledger, job, "3", "host:1:broken", 0)  # so it leaves the shard to them
    for shard in "012":
        assert ledger.claim(job, shard, f"g{shard}", "host:2:good").answer == "LEASED"
        ledger.complete(job, shard, f"g{shard}", {"rows": 4, "failed": 0})
    reconcile(ledger, publisher, expire=True)
    (reason,) = presence.unfit("host:1:broken").values()
    assert reason.startswith("train-x: 3 shards in a row failed here that others did")
    assert reason.endswith("CUDA error: device-side assert")
    assert presence.unfit("host:2:good") == {}
    assert ledger.claim(job, "3", "b4", "host:1:broken", insist=True).answer == "DECLINED"
    assert ledger.claim(job, "3", "g3", "host:2:good").answer == "LEASED"
    assert ledger.state(job) is JobState.RUNNING


def test_a_lone_worker_goes_on_after_failures(ledger: Ledger) -> None:
    job = run(ledger, "train-x", 6)
    Presence(ledger.redis).announce("host:1:a", 60, ["train"])
    for shard in "01234":
        claim = ledger.claim(job, shard, shard, "host:1:a")
        if claim.answer == "DOUBTED":
            assert not others_may_do(ledger, job, shard, "host:1:a", 0)
            claim = ledger.claim(job, shard, shard, "host:1:a", insist=True)
        assert claim.answer == "LEASED"
        ledger.fail(job, shard, shard, "it broke")


def test_status_says_who_declined_a_job_and_who_fails_at_what_others_do(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MTL_REDIS_URL", ledger.url)
    settings.cache_clear()
    job = run(ledger, "train-x", 1)
    ledger.claim(job, "0", "t", "host:1:a")
    ledger.decline(job, "0", "t", "no room in /tmp")
    Presence(ledger.redis).note_unfit("host:2:b", "host:2:b#1", "train-y: 3 shards in a row failed")
    said = CliRunner().invoke(main, ["status", job]).output
    assert "declined by host:1:a: no room in /tmp" in said
    assert "unfit: host:2:b#1: train-y: 3 shards in a row failed" in said
    facts = json.loads(CliRunner().invoke(main, ["status", job, "--json"]).output)
    assert facts["declined"] == {"host:1:a": "no room in /tmp"}


@pytest.mark.slow
def test_an_unfit_worker_leaves_by_itself_and_says_why(workers: Workers) -> None:
    process = workers.start()
    presence = Presence(Ledger(workers.url, Settings()).redis)
    wait_until(lambda: bool(presence.workers()), 90, "the worker is there")
    (name,) = presence.workers()
    presence.note_unfit(name, f"{name}#0", "train-x: 3 shards in a row failed here")
    assert process.wait(90) == 1
    assert "this worker fails at what others do; train-x: 3 shards in a row" in workers.logs()
    assert presence.workers() == []
    assert presence.all_unfit() == {f"{name}#0": "train-x: 3 shards in a row failed here"}


# --- jobs that cannot be finalised


def settled_label_job(ledger: Ledger, folder: Path, output: str) -> str:
    """A label job whose only row was set aside."""
    spec = spec_for(lines(folder / "a.txt", ["a"]), folder).model_copy(update={"output": output})
    ledger.create("label-x", spec)
    ledger.add_shards("label-x", {"00000": {"rows": 1, "file": "shard-00000.parquet"}})
    ledger.update("label-x", planned=1, rows_total=1)
    ledger.transition("label-x", JobState.RUNNING)
    for token in "ab":
        ledger.claim("label-x", "00000", token, "worker-a", insist=True)
        ledger.fail("label-x", "00000", token, "it broke")
    assert ledger.snapshot("label-x").settled
    return "label-x"


def test_a_finaliser_without_its_store_pauses_the_job_with_the_reason(
    redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {
        "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
        "AWS_ACCESS_KEY_ID": "x",
        "AWS_SECRET_ACCESS_KEY": "x",
        "AWS_REGION": "x",
    }.items():
        monkeypatch.setenv(name, value)
    ledger = Ledger(redis_url, Settings(max_attempts=2, store_patience_s=0))
    job = settled_label_job(ledger, tmp_path, "s3://unreachable-bucket/out")
    finalise_or_pause(ledger, job)
    snapshot = ledger.snapshot(job)
    assert snapshot.state is JobState.PAUSED
    assert "the store does not answer: s3://unreachable-bucket/out" in snapshot.reason
    assert f"mtl retry {job}" in snapshot.reason


def test_a_finaliser_that_fails_again_and_again_pauses_the_job_with_the_reason(
    redis_url: str, tmp_path: Path
) -> None:
    roots = Settings(max_attempts=2, roots=str(tmp_path / "elsewhere"), state_dir=tmp_path / "s")
    ledger = Ledger(redis_url, roots)
    job = settled_label_job(ledger, tmp_path, str(tmp_path / "out"))
    finalise_or_pause(ledger, job)
    snapshot = ledger.snapshot(job)
    assert (snapshot.state, "MTL_ROOTS" in snapshot.reason) == (JobState.FINALISING, True)
    finalise_or_pause(ledger, job)
    snapshot = ledger.snapshot(job)
    assert snapshot.state is JobState.PAUSED
    assert snapshot.reason.startswith("it cannot be finalised: ")


def test_an_output_that_has_gone_fails_the_job_once_several_looked_for_it(
    ledger: Ledger, tmp_path: Path
) -> None:
    job = settled_label_job(ledger, tmp_path, str(tmp_path / "out"))  # nothing is staged there
    finalise_or_pause(ledger, job)
    assert ledger.state(job) is JobState.FINALISING
    finalise_or_pause(ledger, job)
    snapshot = ledger.snapshot(job)
    assert snapshot.state is JobState.FAILED
    assert "has gone; the same command begins anew" in snapshot.reason


# --- names and children


def test_workers_of_one_host_and_process_number_have_names_of_their_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv(NAME, raising=False)
    first = take_name()
    assert take_name() == first  # started again in its place
    monkeypatch.delenv(NAME)
    second = take_name()
    assert first != second
    assert first.rpartition(":")[0] == second.rpartition(":")[0]
    monkeypatch.setenv(NAME, "host:1:ab12cd")  # inherited from another worker
    assert take_name() != "host:1:ab12cd"


def test_only_a_living_child_of_this_very_process_is_taken_for_one() -> None:
    with subprocess.Popen(["sleep", "60"]) as child:
        born_s = psutil.Process(child.pid).create_time()
        assert child_at(Busy(child.pid, "j", "0", "t", born_s)) is not None
        assert child_at(Busy(child.pid, "j", "0", "t", born_s - 3600)) is None  # another's number
        assert child_at(Busy(os.getppid(), "j", "0", "t")) is None  # a stranger
        child.kill()
        wait_until(lambda: child_at(Busy(child.pid, "j", "0", "t", born_s)) is None, 10, "seen")


def test_a_worker_of_an_earlier_version_counts_as_one_that_serves_all(ledger: Ledger) -> None:
    presence = Presence(ledger.redis)
    ledger.redis.set("mtl:worker:host:7", "0.1.0", ex=60)
    assert presence.versions() == {"host:7": "0.1.0"}
    assert presence.serving("label.high") == {"host:7": ["host:7#0"]}


def test_what_the_ledger_lists_is_json(ledger: Ledger) -> None:
    job = run(ledger, "train-x", 1)
    ledger.claim(job, "0", "t", "host:1:a", 3)
    ledger.fail(job, "0", "t", "it broke")
    assert json.loads(json.dumps(ledger.failing(job)))["host:1:a#3"]["shards"] == {"0": 1}
