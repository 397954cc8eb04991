"""What a person sees: progress on a terminal, plain lines elsewhere; Ctrl-C once and twice."""

import json
import os
import re
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pexpect
import psutil
import pytest
from specs import TRAIN_SPEC
from support import Mtl, RedisServer, Workers, pace, wait_until

from jobs.ledger.ledger import Ledger
from jobs.ledger.lifecycle import JobState
from jobs.settings import Settings

pytestmark = pytest.mark.slow

ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
COLOURS = re.compile(r"\x1b\[[0-9;]*m")


@pytest.fixture
def sentences(tmp_path: Path) -> Path:
    """Enough of them for a job that takes a while."""
    path = tmp_path / "in.txt"
    path.write_text("".join(f"The team won match {n} of the season.\n" for n in range(60_000)))
    return path


@contextmanager
def terminal(folder: Path, *arguments: str, **environment: str) -> Iterator[pexpect.spawn]:
    """``mtl`` on a real pseudo-terminal of 120 columns."""
    child = pexpect.spawn(
        sys.executable,
        ["-m", "jobs", *arguments],
        env={**os.environ, "TERM": "xterm-256color", **environment},
        cwd=folder,
        dimensions=(30, 120),
        encoding="utf-8",
        codec_errors="replace",  # Ctrl-C drops what a terminal has not shown, in mid-character too
        timeout=60 * pace(),
    )
    child.logfile_read = (folder / "screen").open("w")
    try:
        yield child
    finally:
        child.close(force=True)
        child.logfile_read.close()


def plain(folder: Path) -> str:
    return ESCAPES.sub("", (folder / "screen").read_text())


def test_a_terminal_shows_progress_and_ctrl_c_cancels_the_job(
    sentences: Path, workers: Workers, tmp_path: Path
) -> None:
    workers.start()
    environment = {"MTL_REDIS_URL": workers.url}
    command = ("label", "in.txt", "-o", "out", "--shard-rows", "1000", "--embedding", "none")
    with terminal(tmp_path, *command, **environment) as child:
        child.expect(r"[1-9][0-9,]*/60,000 rows, [0-9,]+ rows/s")
        with terminal(tmp_path, "status", "--watch", **environment) as watching:
            watching.expect(r"label-\w+ +running")
            watching.expect("queue: .* shards left; messages waiting: ")
            watching.expect("workers: 1, 1 at work")
            watching.expect(r": label-\w+ shard 00\d+")
            child.sendintr()
            child.expect("cancelling label-")
            child.expect("cancelled; [0-9,]+ of 60,000 rows are done; the same command")
            child.expect(pexpect.EOF)
            watching.expect("cancelled by its user")
            watching.expect(pexpect.EOF)
    assert child.exitstatus == 130
    assert "Traceback" not in plain(tmp_path)
    assert COLOURS.search((tmp_path / "screen").read_text())


def test_a_jobs_id_is_whole_on_a_narrow_terminal_too(
    mtl: Mtl, workers: Workers, tmp_path: Path
) -> None:
    (tmp_path / "in.txt").write_text("A dull film.\n" * 60_000)
    where = {"MTL_REDIS_URL": workers.url}
    submitted = mtl("label", "in.txt", "-o", "out", "--detach", "--embedding", "none", **where)
    job = submitted.out.strip()
    with terminal(tmp_path, "status", "--watch", COLUMNS="80", **where) as watching:
        watching.expect(rf"{job} +running")
        assert "…" not in watching.before
        watching.expect("workers: ")
        watching.sendintr()
        watching.expect(pexpect.EOF)


def suspended_at_work(processes: list[psutil.Process], url: str) -> bool:
    """Stop a worker; let it go on if it was between two shards in that moment."""
    for process in processes:
        process.suspend()
    time.sleep(0.05)  # what it had sent to Redis has been carried out by then
    ledger = Ledger(url, Settings())
    (job,) = ledger.job_ids()
    holds = bool(ledger.snapshot(job).workers)
    ledger.redis.close()
    for process in [] if holds else processes:
        process.resume()
    return holds


def test_a_second_ctrl_c_leaves_at_once(sentences: Path, workers: Workers, tmp_path: Path) -> None:
    worker = workers.start(MTL_LEASE_S="30", MTL_STALL_S="60")
    command = ("label", "in.txt", "-o", "out", "--shard-rows", "2000", "--embedding", "none")
    settings = {"MTL_REDIS_URL": workers.url, "MTL_LEASE_S": "30"}
    with terminal(tmp_path, *command, **settings) as child:
        child.expect(r"[1-9][0-9,]*/60,000 rows")
        # A worker that does not answer: without the second Ctrl-C one would wait for its lease.
        processes = [*psutil.Process(worker.pid).children(), psutil.Process(worker.pid)]
        wait_until(lambda: suspended_at_work(processes, workers.url), 30, "stopped in mid-shard")
        child.sendintr()
        child.expect("Ctrl-C again leaves without waiting")
        child.sendintr()
        child.expect("left; label-[0-9a-f]+ stops after the batches under way")
        child.expect(pexpect.EOF, timeout=5 * pace())
    assert child.exitstatus == 130
    ledger = Ledger(workers.url, Settings())
    (job,) = ledger.job_ids()
    assert ledger.state(job) in (JobState.CANCELLING, JobState.CANCELLED)
    ledger.redis.close()


def test_a_second_ctrl_c_before_redis_was_asked_says_that_the_job_may_go_on(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    (tmp_path / "in.txt").write_text("A dull film.\n")
    server = RedisServer(tmp_path_factory.mktemp("r"))
    server.start()
    try:
        with terminal(tmp_path, "label", "in.txt", "-o", "out", MTL_REDIS_URL=server.url) as child:
            child.expect(r"0/1 rows")
            server.signal(signal.SIGSTOP)
            child.sendintr()
            time.sleep(1)
            child.sendintr()
            child.expect(r"left before Redis was asked: label-[0-9a-f]+ may go on; `mtl cancel ")
            child.expect(pexpect.EOF, timeout=5 * pace())
        assert child.exitstatus == 130
    finally:
        server.stop()


def test_ctrl_c_on_the_embedded_default_stops_and_the_same_command_goes_on(
    mtl: Mtl, tmp_path: Path
) -> None:
    (tmp_path / "in.txt").write_text("".join(f"Match {n} was won.\n" for n in range(4000)))
    command = ("label", "in.txt", "-o", "out", "--shard-rows", "100", "--embedding", "none")
    with terminal(tmp_path, *command, NO_COLOR="1") as child:
        child.expect(r"[1-9][0-9,]*/4,000 rows")
        child.sendintr()
        child.expect("stopped; the same command goes on from here")
        child.expect(pexpect.EOF)
    assert child.exitstatus == 130
    shown = (tmp_path / "screen").read_text()
    assert not re.search(r"\x1b\[[0-9;]*3[0-9]", shown), "NO_COLOR leaves no colours"
    again = mtl(*command, "--limit", "4000")
    assert again.code == 2  # another spec in the same folder: only the same command goes on
    again = mtl(*command)
    assert again.code == 0
    assert "has been submitted before; joining it" in again.err
    assert "\x1b" not in again.out + again.err


def test_quiet_prints_the_result_only_and_json_nothing_else(mtl: Mtl, tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text("A good film.\n\nA dull film.\n")
    quiet = mtl("label", "in.txt", "-o", "out", "--quiet")
    assert (quiet.code, quiet.err) == (0, "")
    assert quiet.out.startswith("2 of 3 rows labelled, 1 in errors")
    shown = mtl("label", "in.txt", "-o", "out", "--json")
    assert shown.err == ""
    assert json.loads(shown.out)["rows"]["labelled"] == 2


def test_watching_ends_at_a_job_that_rests_or_that_nobody_goes_on_with(
    mtl: Mtl, redis_url: str
) -> None:
    ledger = Ledger(redis_url, Settings())
    ledger.create("train-1", TRAIN_SPEC, "normal")
    ran = mtl("status", "--watch", MTL_REDIS_URL=redis_url)
    assert ran.code == 0
    assert "train-1: nobody is at it; the command that started it goes on with it" in ran.err
    ledger.transition("train-1", JobState.PLANNING)
    ledger.transition("train-1", JobState.PAUSED, "the disk is full")
    ran = mtl("status", "--watch", MTL_REDIS_URL=redis_url)
    assert (ran.code, ran.err) == (0, "")
    assert "paused" in ran.out
    assert "start one with `mtl worker`" in ran.out
    ledger.redis.close()


def test_without_a_redis_nobody_is_told_to_start_a_worker(mtl: Mtl) -> None:
    ran = mtl("status")
    assert ran.code == 0
    assert "workers: none; a command brings its own" in ran.out
    assert "mtl worker" not in ran.out
