"""A child's line of shards: what it takes, what it leaves, and that nothing stays in its hands."""

import os
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow.parquet as pq
import pytest
from specs import TRAIN_SPEC

from jobs.label.request import LabelRequest, prepare_label
from jobs.label.submit import open_label, plan_label
from jobs.ledger.ledger import Ledger
from jobs.ledger.messages import Publisher, next_shard, queue_names
from jobs.ledger.presence import Busy, Presence
from jobs.ledger.snapshot import Snapshot
from jobs.settings import Settings, settings
from mtl_core.engine.base import Engine
from mtl_core.errors import JobError
from worker.lease.heartbeat import leaving, unusable
from worker.line import Labelling, Line
from worker.process import own
from worker.process.children import ChildWatch
from worker.work import work_from

ROWS, SHARD_ROWS, SHARDS = 50, 10, 5
QUEUES = queue_names(["label"])


@pytest.fixture
def ledger(redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ledger]:
    """This process as a worker's child, with the ledger it uses."""
    monkeypatch.setenv("MTL_REDIS_URL", redis_url)
    monkeypatch.setenv("MTL_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("MTL_ENGINE", "torch")
    monkeypatch.setenv(own.NAME, f"host:{os.getpid()}:test")
    for each in (settings, own.ledger):
        each.cache_clear()
    yield own.ledger()
    leaving.clear()
    unusable.clear()
    for each in (settings, own.ledger):
        each.cache_clear()


@pytest.fixture
def publisher(redis_url: str) -> Iterator[Publisher]:
    sender = Publisher(redis_url)
    yield sender
    sender.close()


@pytest.fixture
def job(ledger: Ledger, publisher: Publisher, tmp_path: Path) -> str:
    """A job whose shards all wait, with their messages in the queue."""
    source = tmp_path / "in.txt"
    source.write_text("".join(f"the film number {row} is good\n" for row in range(ROWS)))
    job = prepare_label(
        LabelRequest((str(source),), str(tmp_path / "out"), "default", shard_rows=SHARD_ROWS),
        Settings(),
    )
    open_label(ledger, job, "normal")
    plan_label(ledger, publisher, job, lambda: None)
    return job.id


def work(ledger: Ledger) -> list[str]:
    """Take a message as Celery does, and work from it; returns the jobs that were settled."""
    settled: list[str] = []
    found = next_shard(ledger.redis, QUEUES, lambda job, shard: True)
    assert found is not None
    work_from(*found, QUEUES, settled.append)
    return settled


def assert_nothing_in_hand(ledger: Ledger, snapshot: Snapshot) -> None:
    assert not snapshot.workers
    assert Presence(ledger.redis).busy(own.worker_name()) == []


def test_one_message_is_enough_for_all_shards_behind_it(
    ledger: Ledger, job: str, tmp_path: Path
) -> None:
    assert work(ledger) == [job]
    snapshot = ledger.snapshot(job)
    assert (snapshot.shards.done, snapshot.attempts["done"]) == (SHARDS, SHARDS)
    assert ledger.redis.llen("label") == 0
    assert_nothing_in_hand(ledger, snapshot)
    rows = [
        row
        for part in sorted((tmp_path / "out").glob("part-*.parquet"))
        for row in pq.read_table(part)["row_id"].to_pylist()
    ]
    assert sorted(rows) == list(range(ROWS))


@pytest.mark.parametrize(("batches", "time_to_take"), [(0, False), (3, False), (8, True)])
def test_the_next_shard_is_taken_while_the_last_batches_of_a_slow_engine_are_under_way(
    batches: int, time_to_take: bool
) -> None:
    held: Any = SimpleNamespace(heartbeat=SimpleNamespace(progress=lambda done: None))
    ready: Any = SimpleNamespace(rows=100, load_s=0.01, nbytes=0)
    current = Labelling(held, ready, begun_s=time.monotonic() - batches)  # a second a batch
    for batch in range(batches):
        current.progress(10 * (batch + 1))
    assert Line._is_time(current) is time_to_take


def test_the_line_ends_where_a_job_is_to_be_finalised_first(
    ledger: Ledger, publisher: Publisher, job: str
) -> None:
    publisher.finalise("label", "another")
    work_from(job, "00000", QUEUES, lambda job: None)
    assert ledger.snapshot(job).shards.done == 1
    assert ledger.redis.llen("label.high") == 1


def test_the_line_ends_where_a_training_job_comes_first(
    ledger: Ledger, publisher: Publisher, job: str
) -> None:
    ledger.create("train-x", TRAIN_SPEC)
    publisher.shards("train", "high", "train-x", ["0"])
    work_from(job, "00000", queue_names(), lambda job: None)
    assert ledger.snapshot(job).shards.done == 1
    assert ledger.redis.llen("train.high") == 1


def test_a_shard_that_failed_before_is_worked_on_alone(ledger: Ledger, job: str) -> None:
    ledger.claim(job, "00001", "other", "other:1:w")
    ledger.fail(job, "00001", "other", "it died", outcome="lost")
    work(ledger)  # shard 0; the next one in the queue is shard 1
    assert ledger.snapshot(job).shards.done == 1
    work(ledger)
    assert ledger.snapshot(job).shards.done == 2
    work(ledger)
    assert ledger.snapshot(job).shards.done == SHARDS


def test_a_worker_that_leaves_gives_back_all_that_it_holds(ledger: Ledger, job: str) -> None:
    leaving.set()
    work(ledger)
    snapshot = ledger.snapshot(job)
    assert (snapshot.shards.done, snapshot.attempts["released"]) == (0, 1)
    assert_nothing_in_hand(ledger, snapshot)


def test_a_child_whose_gpu_is_lost_counts_one_failure_gives_back_the_rest_and_takes_no_more(
    ledger: Ledger, job: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lost(*_: object) -> None:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(Engine, "label_encoded", lost)
    work(ledger)
    assert unusable.is_set()
    attempts = ledger.snapshot(job).attempts
    assert (attempts["failed"], attempts["done"]) == (1, 0)
    assert attempts["released"] <= 1  # the one ahead, if it was taken already
    assert_nothing_in_hand(ledger, ledger.snapshot(job))


def test_a_cancelled_job_leaves_nothing_in_hand_and_its_messages_are_dropped(
    ledger: Ledger, job: str
) -> None:
    found = next_shard(ledger.redis, QUEUES, lambda job, shard: True)
    assert found is not None
    ledger.delete(job)
    with pytest.raises(JobError):
        ledger.snapshot(job)
    work_from(*found, QUEUES, lambda job: None)
    assert Presence(ledger.redis).busy(own.worker_name()) == []


def test_a_shard_that_only_waited_in_a_dead_child_is_given_back_and_not_blamed(
    ledger: Ledger, job: str
) -> None:
    presence, dead = Presence(ledger.redis), 2**22 + 1  # no process has such a number
    for shard, idle in (("00000", False), ("00001", True)):
        ledger.claim(job, shard, shard, own.worker_name())
        presence.begin(own.worker_name(), Busy(dead, job, shard, shard, idle=idle))
    ChildWatch(ledger, presence, own.worker_name()).check()
    assert [ledger.strikes(job, shard) for shard in ("00000", "00001")] == [1, 0]
    attempts = ledger.snapshot(job).attempts
    assert (attempts["lost"], attempts["released"]) == (1, 1)
    assert presence.busy(own.worker_name()) == []
