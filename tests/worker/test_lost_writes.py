"""A worker on a Redis that has lost the last writes about a job whose output is whole."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from rewind import Rewind, finish_by_setting_aside

from jobs.label.ended import REASON
from jobs.label.request import LabelJob, LabelRequest, prepare_label
from jobs.label.submit import open_label, plan_label
from jobs.ledger.ledger import Ledger
from jobs.ledger.lifecycle import JobState
from jobs.ledger.messages import Publisher
from jobs.output.layout import SHARDS, WORK, finished
from jobs.settings import Settings, settings
from worker import finaliser
from worker.process import own
from worker.work import work_from


@pytest.fixture
def ledger(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ledger]:
    """Of this process, which is the worker."""
    monkeypatch.setenv("MTL_REDIS_URL", redis_url)
    monkeypatch.setenv(own.NAME, "host:1:here")
    for each in (settings, own.ledger):
        each.cache_clear()
    yield own.ledger()
    for each in (settings, own.ledger):
        each.cache_clear()


@pytest.fixture
def job(ledger: Ledger, tmp_path: Path) -> LabelJob:
    """Planned, and running."""
    (tmp_path / "in.txt").write_text("a good film\na bad one\n")
    request = LabelRequest(
        inputs=(str(tmp_path / "in.txt"),),
        output=str(tmp_path / "out"),
        model="default",
        embedding="none",
        shard_rows=10,
    )
    made = prepare_label(request, Settings())
    publisher = Publisher(ledger.url)
    open_label(ledger, made, "normal")
    plan_label(ledger, publisher, made, lambda: None)
    publisher.close()
    return made


def test_whoever_misses_the_staged_rows_finds_the_output_whole_and_the_job_ends(
    ledger: Ledger, job: LabelJob
) -> None:
    rewind = Rewind(ledger, job.id)
    finish_by_setting_aside(ledger, job.id)
    finaliser.finalise_or_pause(ledger, job.id)
    assert finished(job.output, job.id)
    ended = ledger.state(job.id)
    job.output.delete_folder(f"{WORK}/{SHARDS}")  # as it is where no row was set aside
    rewind()
    assert ledger.state(job.id) is JobState.RUNNING
    assert work_from(job.id, "00000", (), lambda settled: None) == "RELEASED"
    snapshot = ledger.snapshot(job.id)
    assert (snapshot.state, snapshot.reason) == (ended, REASON)
    assert finished(job.output, job.id)


def test_staged_rows_that_are_missing_of_an_output_that_is_not_whole_are_this_workers_trouble(
    ledger: Ledger, job: LabelJob
) -> None:
    job.output.delete_folder(f"{WORK}/{SHARDS}")
    assert work_from(job.id, "00000", (), lambda settled: None) == "DECLINED"
    assert ledger.state(job.id) is JobState.RUNNING


def test_nothing_is_finalised_before_a_replica_has_the_last_shards(
    ledger: Ledger, job: LabelJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    finish_by_setting_aside(ledger, job.id)
    monkeypatch.setattr(finaliser, "replicated", lambda _: False)
    finaliser.finalise_or_pause(ledger, job.id)
    assert ledger.state(job.id) is JobState.RUNNING
    assert not finished(job.output, job.id)
    monkeypatch.undo()
    finaliser.finalise_or_pause(ledger, job.id)
    assert finished(job.output, job.id)
