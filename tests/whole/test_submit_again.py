"""The same command again: after a deletion, an interruption, a crash; and two at one moment."""

import json
import multiprocessing
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from s3_server import S3Server
from support import Mtl, pace, running_mtl, wait_until

from jobs.label import submit
from jobs.label.request import LabelJob, LabelRequest, prepare_label
from jobs.label.submit import open_label, plan_label
from jobs.ledger.ledger import Ledger
from jobs.ledger.lifecycle import JobState
from jobs.ledger.messages import Publisher
from jobs.output.layout import owner, take_folder
from jobs.settings import Settings
from mtl_core.errors import OutputError
from mtl_core.storage.address import place_of
from mtl_core.storage.folder import Folder
from mtl_core.storage.parquet import write_table

ROWS, TURNS = 40, 50


@pytest.fixture
def ledger(redis_url: str) -> Iterator[Ledger]:
    with_redis = Ledger(redis_url, Settings())
    yield with_redis
    with_redis.redis.close()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "in.txt"
    path.write_text("".join(f"sentence {n}\n" for n in range(ROWS)))
    return path


def prepared(source: Path, output: Path | str, **changes: Any) -> LabelJob:
    request = LabelRequest(
        inputs=(str(source),),
        output=str(output),
        model="default",
        embedding="none",
        shard_rows=10,
        shard_tokens=10_000,
    )
    return prepare_label(replace(request, **changes), Settings())


def go(ledger: Ledger, job: LabelJob) -> None:
    """What the command does before it watches."""
    publisher = Publisher(ledger.url)
    open_label(ledger, job, "normal")
    plan_label(ledger, publisher, job, lambda: None)
    publisher.close()


def work(ledger: Ledger, job: LabelJob, shard: str) -> None:
    """A worker's attempt, from claim to complete, with a part that says whose it is."""
    assert ledger.claim(job.id, shard, "token", "worker").answer == "LEASED"
    table = pa.table({"row_id": range(10)})
    path = Path(job.spec.output) / f"part-{shard}-a1.parquet"
    write_table(path, table, {"mtl.job": job.id})
    ledger.complete(job.id, shard, "token", {"part": path.name, "rows": 10, "failed": 0})


def begin(ledger: Ledger, job: LabelJob) -> None:
    open_label(ledger, job, "normal")


def plan_half(ledger: Ledger, job: LabelJob) -> None:
    begin(ledger, job)
    ledger.transition(job.id, JobState.PLANNING)


def run_half(ledger: Ledger, job: LabelJob) -> None:
    go(ledger, job)
    work(ledger, job, "00000")


def run_all(ledger: Ledger, job: LabelJob) -> None:
    go(ledger, job)
    for shard in list(ledger.shards(job.id)):
        work(ledger, job, shard)


def finalising(ledger: Ledger, job: LabelJob) -> None:
    run_all(ledger, job)
    ledger.transition(job.id, JobState.FINALISING)


def failed(ledger: Ledger, job: LabelJob) -> None:
    run_half(ledger, job)
    ledger.transition(job.id, JobState.FAILED, "no reason")


def cancelled(ledger: Ledger, job: LabelJob) -> None:
    run_half(ledger, job)
    ledger.transition(job.id, JobState.CANCELLING)
    ledger.transition(job.id, JobState.CANCELLED)


STAGES = (begin, plan_half, go, run_half, run_all, finalising, failed, cancelled)


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("deleted", ["", "_work"])
def test_after_its_output_was_deleted_the_same_command_plans_anew(
    ledger: Ledger,
    source: Path,
    tmp_path: Path,
    stage: Callable[[Ledger, LabelJob], None],
    deleted: str,
) -> None:
    job = prepared(source, tmp_path / "out")
    stage(ledger, job)
    shutil.rmtree(tmp_path / "out" / deleted)
    go(ledger, job)
    snapshot = ledger.snapshot(job.id)
    assert (snapshot.state, snapshot.rows.total, snapshot.rows.done) == ("running", ROWS, 0)
    staged = [
        tmp_path / "out/_work/shards" / shard["file"] for shard in ledger.shards(job.id).values()
    ]
    assert sum(pq.read_metadata(path).num_rows for path in staged) == ROWS
    assert owner(job.output) == job.id


def test_what_is_done_stays_done_where_nothing_was_deleted(
    ledger: Ledger, source: Path, tmp_path: Path
) -> None:
    job = prepared(source, tmp_path / "out")
    failed(ledger, job)
    go(ledger, job)
    assert ledger.snapshot(job.id).rows.done == 10
    assert ledger.state(job.id) == JobState.RUNNING


def test_a_folder_with_a_file_that_no_job_wrote_is_not_taken(
    ledger: Ledger, source: Path, tmp_path: Path
) -> None:
    job = prepared(source, tmp_path / "out")
    run_half(ledger, job)
    shutil.rmtree(tmp_path / "out/_work")
    pq.write_table(pa.table({"a": [1]}), tmp_path / "out/part-mine.parquet")
    with pytest.raises(OutputError, match="holds other files"):
        open_label(ledger, job, "normal")
    assert (tmp_path / "out/part-mine.parquet").exists()


def test_a_process_killed_while_it_takes_a_folder_leaves_it_free(
    ledger: Ledger, source: Path, tmp_path: Path
) -> None:
    left = tmp_path / "out/_work/.job.json.4711.tmp"
    left.parent.mkdir(parents=True)
    left.write_text("{")
    job = prepared(source, tmp_path / "out")
    go(ledger, job)
    assert ledger.state(job.id) == JobState.RUNNING


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("a defect"), OSError("disk")])
def test_no_exception_leaves_a_job_planning(
    ledger: Ledger,
    source: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException,
) -> None:
    def raising(*_: object) -> None:
        raise error

    job = prepared(source, tmp_path / "out")
    with monkeypatch.context() as patched:
        patched.setattr(submit, "plan", raising)
        with pytest.raises((type(error), OutputError)):
            go(ledger, job)
    assert ledger.snapshot(job.id).resting
    assert ledger.snapshot(job.id).reason
    go(ledger, job)  # the same command goes on
    assert ledger.state(job.id) == JobState.RUNNING


# --- two submits at the same moment


def take_at_once(barrier: Barrier, where: str, url: str, source: str, limit: int) -> str:
    ledger = Ledger(url, Settings())
    job = prepared(Path(source), where, limit=limit)
    barrier.wait()
    try:
        open_label(ledger, job, "normal")
    except OutputError:
        return ""
    return job.id


def take_alone(barrier: Barrier, root: str, job: str) -> list[str]:
    """Several folders one after the other, without a Redis in common: each folder decides."""
    won = []
    for turn in range(TURNS):
        barrier.wait()
        with suppress(OutputError):
            take_folder(Folder(Path(root) / str(turn)), job, {})
            won.append(str(turn))
    return won


def at_once(work: Callable[..., Any], arguments: list[tuple[object, ...]]) -> list[Any]:
    """Run a function in a process for each of the arguments, all at the same moment."""
    context = multiprocessing.get_context("spawn")
    with context.Manager() as manager, context.Pool(len(arguments)) as pool:
        barrier = manager.Barrier(len(arguments))
        return pool.starmap(work, [(barrier, *own) for own in arguments])


@pytest.mark.slow
def test_of_several_jobs_that_take_a_folder_at_once_one_gets_it(tmp_path: Path) -> None:
    won = at_once(take_alone, [(str(tmp_path), f"label-{n}") for n in range(4)])
    assert sorted(turn for own in won for turn in own) == sorted(map(str, range(TURNS)))


@pytest.mark.slow
@pytest.mark.parametrize("where", ["folder", "s3"])
def test_two_different_submits_with_one_output_do_not_both_win(
    where: str, source: Path, tmp_path: Path, redis_url: str, request: pytest.FixtureRequest
) -> None:
    target = str(tmp_path / "out")
    if where == "s3":
        s3: S3Server = request.getfixturevalue("s3")
        target = f"{s3.address}/out"
    won = at_once(take_at_once, [(target, redis_url, str(source), n) for n in (5, 6)])
    assert len([job for job in won if job]) == 1
    assert owner(place_of(target)) == "".join(won)


# --- what else a user does after a mistake


def test_a_job_that_is_being_finalised_says_that_it_cannot_be_cancelled(
    ledger: Ledger, source: Path, tmp_path: Path, mtl: Mtl
) -> None:
    job = prepared(source, tmp_path / "out")
    finalising(ledger, job)
    done = mtl("cancel", job.id, MTL_REDIS_URL=ledger.url)
    assert done.code == 3
    assert "is finalising: all its rows are done; wait for its end" in done.err


@pytest.mark.slow
@pytest.mark.parametrize("deleted", ["", "_work"])
def test_ctrl_c_then_deleting_the_output_then_the_same_command_labels_all_rows(
    tmp_path: Path, mtl: Mtl, deleted: str
) -> None:
    source, out = tmp_path / "in.txt", tmp_path / "out"
    source.write_text("".join(f"The team won match {n}.\n" for n in range(600)))
    arguments = ("label", source, "-o", out, "--shard-rows", "100", "--embedding", "none")
    with running_mtl(*arguments) as process:
        staged = out / "_work/shards"
        wait_until(lambda: len(list(staged.glob("shard-*"))) >= 6, 60, "all is planned")
        process.send_signal(signal.SIGINT)
        assert process.wait(60 * pace()) == 130
    shutil.rmtree(out / deleted)
    done = mtl(*arguments, "--json")
    assert done.code == 0, done.err
    assert json.loads(done.out)["rows"]["labelled"] == 600


@pytest.mark.slow
def test_a_short_commands_worker_gives_back_the_shard_of_a_longer_one(
    tmp_path: Path, mtl: Mtl
) -> None:
    long, short = tmp_path / "long.txt", tmp_path / "short.txt"
    long.write_text("".join(f"{'The team won the match. ' * 8}{n}\n" for n in range(1200)))
    short.write_text("A dull film.\n")
    options = ("--embedding", "none", "--shard-rows", "300")
    with running_mtl("label", long, "-o", tmp_path / "a", *options, MTL_LEASE_S="120") as process:
        wait_until(lambda: bool(list((tmp_path / "a").glob("part-*"))), 60, "a part")
        done = mtl("label", short, "-o", tmp_path / "b", *options, MTL_LEASE_S="120")
        assert done.code == 0, done.err
        # Were its shard lost with the short command's worker, it would wait for 120 s.
        assert process.wait(100 * pace()) == 0
    manifest = json.loads((tmp_path / "a/_manifest.json").read_text())
    assert manifest["attempts"]["lost"] == 0
