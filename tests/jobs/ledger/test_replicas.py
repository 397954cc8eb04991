"""A Redis that has lost its last writes: noticed, told, and what is missing found again.

The losses are real: the keys of a job are put back to what they were a moment before, which is what
a replica has that took over.
"""

import threading
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import redis
from rewind import Rewind, finish_by_setting_aside
from specs import TRAIN_SPEC, lines, spec_for

from jobs.input.source import open_source
from jobs.label.ended import REASON, end_if_whole
from jobs.label.finalise import finalise
from jobs.label.request import LabelJob
from jobs.label.submit import PLAN_TRIES, open_label, plan_label
from jobs.ledger.ledger import Ledger
from jobs.ledger.lifecycle import JobState
from jobs.ledger.messages import Publisher
from jobs.ledger.replicas import (
    TAKEOVERS,
    Continuity,
    Standing,
    Takeover,
    replicated,
    takeover,
    takeovers,
)
from jobs.ledger.scripts import keys_of
from jobs.settings import Settings
from jobs.specs import job_id
from jobs.train.submit import submit_train
from mtl_core.errors import JobError

BEFORE = Standing("run-a", 5000, "stream-a", offset=1000)
REPLICA = Standing("run-b", 5000, "stream-b", 950, stream_before="stream-a", offset_before=900)
NEVER = "0" * 40


def test_the_same_redis_is_no_takeover() -> None:
    assert takeover(BEFORE, replace(BEFORE, offset=2000), 7) is None


def test_a_replica_that_took_over_tells_how_much_it_lacks() -> None:
    assert takeover(BEFORE, REPLICA, 7) == Takeover(7, lost=100, restarted=False)
    assert takeover(replace(BEFORE, offset=800), REPLICA, 7) == Takeover(7, 0, restarted=False)
    assert "100 bytes" in str(takeover(BEFORE, REPLICA, 7))


def test_a_restart_and_a_takeover_by_an_unknown_replica_are_told_apart() -> None:
    restarted = replace(BEFORE, run_id="run-c", stream="stream-c", stream_before=NEVER)
    assert takeover(BEFORE, restarted, 7) == Takeover(7, None, restarted=True)
    other = replace(REPLICA, stream_before="stream-x")
    assert takeover(BEFORE, other, 7) == Takeover(7, None, restarted=False)


def test_whoever_saw_more_of_it_lost_has_the_last_word(redis_url: str) -> None:
    client = redis.Redis.from_url(redis_url, decode_responses=True)
    seen = [Continuity(client) for _ in range(3)]
    now = seen[0].look()[0]
    for each, lost in zip(seen, (40, 90, 10), strict=True):
        offset = now.offset_before + lost
        each._last = replace(now, run_id="gone", stream=now.stream_before, offset=offset)
        assert each.look()[1] is not None
        assert each.look()[1] is None
    (noted,) = takeovers(client).values()
    assert noted.lost == 90
    assert client.ttl(TAKEOVERS) > 24 * 3600


def test_without_replicas_nobody_is_waited_for(redis_url: str) -> None:
    client = redis.Redis.from_url(redis_url, decode_responses=True)
    assert replicated(client, patience_s=60)


# --- lost writes


@pytest.fixture
def ledger(redis_url: str) -> Ledger:
    return Ledger(redis_url, Settings())


def a_job(ledger: Ledger, tmp_path: Path, rows: int = 33) -> LabelJob:
    spec = spec_for(
        lines(tmp_path / "in.txt", [f"sentence {n}" for n in range(rows)]), tmp_path / "out"
    )
    job = LabelJob(job_id(spec), spec, open_source(spec.inputs, (), set()))
    assert open_label(ledger, job, "normal")
    return job


def lose_the_last_shard(ledger: Ledger, monkeypatch: pytest.MonkeyPatch, times: int) -> None:
    """Have Redis lose the last shard of a job of 33 rows as soon as it is added, so many times."""
    real, lost = Ledger.add_shards, []

    def add_shards(self: Ledger, job: str, shards: Mapping[str, Any]) -> list[str]:
        rewind = Rewind(ledger, job)
        added = real(self, job, shards)
        if [shard["rows"] for shard in shards.values()] == [3] and len(lost) < times:
            lost.append(added)
            rewind()
        return added

    monkeypatch.setattr(Ledger, "add_shards", add_shards)


def test_shards_lost_while_a_job_is_planned_are_planned_again(
    ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = a_job(ledger, tmp_path)
    lose_the_last_shard(ledger, monkeypatch, times=1)
    assert plan_label(ledger, Publisher(ledger.url), job, lambda: None)
    snapshot = ledger.snapshot(job.id)
    assert snapshot.state is JobState.RUNNING
    assert snapshot.rows.total == 33
    assert sum(shard["rows"] for shard in ledger.shards(job.id).values()) == 33


def test_a_job_whose_shards_are_lost_again_and_again_fails_and_says_so(
    ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = a_job(ledger, tmp_path)
    lose_the_last_shard(ledger, monkeypatch, times=PLAN_TRIES)
    with pytest.raises(JobError, match=f"lost shards of .*{PLAN_TRIES} times"):
        plan_label(ledger, Publisher(ledger.url), job, lambda: None)
    snapshot = ledger.snapshot(job.id)
    assert (snapshot.state, snapshot.settled) == (JobState.FAILED, False)


def test_a_plan_is_whole_only_with_all_its_shards_and_rows(ledger: Ledger) -> None:
    ledger.create("train-a", TRAIN_SPEC)
    ledger.add_shards("train-a", {"0": {"rows": 5}, "1": {"rows": 7}})
    ledger.add_shards("train-a", {"1": {"rows": 7}})  # planned again
    assert not ledger.close_plan("train-a", shards=3, rows=12)
    assert not ledger.close_plan("train-a", shards=2, rows=13)
    assert not ledger.snapshot("train-a").planned
    assert ledger.close_plan("train-a", shards=2, rows=12)
    assert ledger.snapshot("train-a").planned
    assert not ledger.close_plan("train-nowhere", shards=0, rows=0)


def test_a_job_begun_by_an_earlier_version_is_planned_as_it_was(ledger: Ledger) -> None:
    ledger.create("train-a", TRAIN_SPEC)
    ledger.redis.hdel(keys_of("train-a")[0], "shards_added", "rows_added")
    ledger.add_shards("train-a", {"0": {"rows": 5}})
    assert ledger.close_plan("train-a", shards=9, rows=9)


def test_a_train_job_whose_only_shard_is_lost_does_not_end_as_done(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Ledger.add_shards

    def add_shards(self: Ledger, job: str, shards: Mapping[str, Any]) -> list[str]:
        rewind = Rewind(ledger, job)
        added = real(self, job, shards)
        rewind()
        return added

    monkeypatch.setattr(Ledger, "add_shards", add_shards)
    with pytest.raises(JobError, match="Redis has lost"):
        submit_train(ledger, Publisher(ledger.url), TRAIN_SPEC, "normal")
    monkeypatch.undo()
    job, _ = submit_train(ledger, Publisher(ledger.url), TRAIN_SPEC, "normal")
    assert list(ledger.shards(job)) == ["run"]
    assert not ledger.snapshot(job).settled


def test_a_lost_claim_and_a_lost_completion_are_refused_as_stale(ledger: Ledger) -> None:
    ledger.create("train-a", TRAIN_SPEC)
    ledger.add_shards("train-a", {"0": {"rows": 5}})
    assert ledger.close_plan("train-a", 1, 5)
    ledger.transition("train-a", JobState.RUNNING)
    rewind = Rewind(ledger, "train-a")
    assert ledger.claim("train-a", "0", "token-a", "worker-a").answer == "LEASED"
    rewind()
    assert ledger.beat("train-a", "0", "token-a", 1) == "STALE"
    assert ledger.complete("train-a", "0", "token-a", {"rows": 5, "failed": 0}) == "STALE"
    assert ledger.claim("train-a", "0", "token-b", "worker-b").answer == "LEASED"
    rewind = Rewind(ledger, "train-a")
    assert ledger.complete("train-a", "0", "token-b", {"rows": 5, "failed": 0}) == "LAST"
    rewind()
    assert ledger.snapshot("train-a").shards.done == 0
    assert ledger.holder("train-a", "0") is not None  # its lease will end


def test_a_job_is_in_the_list_if_it_is_anywhere(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = threading.Event()
    real = ledger._run

    def run(script: str, *arguments: object) -> object:
        if script == "create" and ledger.job_ids() == ["train-a"]:
            listed.set()
        return real(script, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(ledger, "_run", run)
    ledger.create("train-a", TRAIN_SPEC)
    assert listed.is_set()


def test_a_job_whose_output_is_whole_ends_though_redis_lost_its_last_shards(
    ledger: Ledger, tmp_path: Path
) -> None:
    job = a_job(ledger, tmp_path, rows=4)
    plan_label(ledger, Publisher(ledger.url), job, lambda: None)
    assert not end_if_whole(ledger, job.id, job.spec)  # it is not, as yet
    assert ledger.state(job.id) is JobState.RUNNING
    rewind = Rewind(ledger, job.id)
    finish_by_setting_aside(ledger, job.id)
    assert finalise(ledger, job.id)
    state = ledger.state(job.id)
    rewind()
    assert ledger.state(job.id) is JobState.RUNNING
    assert end_if_whole(ledger, job.id, job.spec)
    snapshot = ledger.snapshot(job.id)
    assert (snapshot.state, snapshot.reason) == (state, REASON)
