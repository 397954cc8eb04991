"""Whose fault an attempt's error is, and what becomes of shard and job."""

import errno
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from specs import TRAIN_SPEC

from jobs.label.request import LabelRequest, prepare_label
from jobs.label.submit import open_label, plan_label
from jobs.ledger.ledger import Ledger
from jobs.ledger.lifecycle import JobState
from jobs.ledger.messages import Publisher
from jobs.settings import Settings, settings
from jobs.specs import LabelSpec
from mtl_core.errors import (
    DataError,
    ModelError,
    OutputError,
    SettingsError,
    StoreError,
    StoreUnreachableError,
)
from worker.blame import Blame, blame, own_trouble
from worker.process import own
from worker.work import work_from

LABEL_SPEC = LabelSpec.model_construct(output="/data/out")
STORE_SPEC = LabelSpec.model_construct(output="s3://bucket/out")


def full(path: str | None = None) -> OSError:
    return OSError(errno.ENOSPC, "No space left on device", path)


@pytest.mark.parametrize(
    ("error", "spec", "expected"),
    [
        (full("/data/out/.part-0.tmp"), LABEL_SPEC, Blame.OUTPUT),
        (full(), LABEL_SPEC, Blame.OUTPUT),
        (full("/tmp/x"), LABEL_SPEC, Blame.WORKER),
        (full("/data/outer/x"), LABEL_SPEC, Blame.WORKER),
        (full(), STORE_SPEC, Blame.WORKER),  # its copy on this machine, before it is put
        (StoreError(errno.EACCES, "access denied", "s3://b/x"), STORE_SPEC, Blame.OUTPUT),
        (StoreUnreachableError(errno.EHOSTUNREACH, "away", "s3://b"), STORE_SPEC, Blame.OUTPUT),
        (full("/nowhere/.m.train-x/model.tmp"), TRAIN_SPEC, Blame.OUTPUT),
        (full("/state/checkpoints/x"), TRAIN_SPEC, Blame.WORKER),
        (ModelError("int8 runs on openvino only"), LABEL_SPEC, Blame.WORKER),
        (SettingsError("outside MTL_ROOTS"), LABEL_SPEC, Blame.WORKER),
        (DataError("no file"), TRAIN_SPEC, Blame.WORKER),
        (ModuleNotFoundError("No module named 'openvino'"), LABEL_SPEC, Blame.WORKER),
        (OutputError("appeared while training"), TRAIN_SPEC, Blame.SPEC),
        (OutputError("staged rows have gone"), LABEL_SPEC, Blame.WORKER),
        (redis.ConnectionError("gone"), LABEL_SPEC, Blame.LEDGER),
        (RuntimeError("CUDA error"), LABEL_SPEC, Blame.ROWS),
        (FileNotFoundError(errno.ENOENT, "no such file", "/data/out/x"), LABEL_SPEC, Blame.ROWS),
    ],
)
def test_an_error_says_whose_fault_it_is(
    error: Exception, spec: LabelSpec, expected: Blame
) -> None:
    assert blame(error, spec) is expected


def test_trouble_with_a_workers_own_files_is_one_line_that_names_them() -> None:
    with (
        pytest.raises(SettingsError, match=r"the engine folder of the worker on .*No space left"),
        own_trouble("the engine folder"),
    ):
        raise full("/engines/x")
    with pytest.raises(StoreError), own_trouble("the copy of the model"):
        raise StoreError(errno.EACCES, "access denied", "s3://b/m")


@pytest.fixture
def broken_worker(
    redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Ledger]:
    """This process as a worker whose engine folder cannot be made."""
    (tmp_path / "file").touch()
    monkeypatch.setenv("MTL_REDIS_URL", redis_url)
    monkeypatch.setenv("MTL_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("MTL_ENGINE", "openvino")
    monkeypatch.setenv("MTL_ENGINE_DIR", str(tmp_path / "file" / "engines"))
    monkeypatch.setenv(own.NAME, "host:1:broken")
    for each in (settings, own.ledger):
        each.cache_clear()
    yield own.ledger()
    for each in (settings, own.ledger):
        each.cache_clear()


def test_a_worker_whose_engine_folder_cannot_be_used_leaves_the_job_to_others(
    broken_worker: Ledger, tmp_path: Path
) -> None:
    pytest.importorskip("openvino")
    (tmp_path / "in.txt").write_text("a good film\na bad one\n")
    request = LabelRequest(
        inputs=(str(tmp_path / "in.txt"),),
        output=str(tmp_path / "out"),
        model="default",
        embedding="none",
        shard_rows=10,
    )
    job = prepare_label(request, Settings())
    publisher = Publisher(broken_worker.url)
    open_label(broken_worker, job, "normal")
    plan_label(broken_worker, publisher, job, lambda: None)
    publisher.close()
    assert work_from(job.id, "00000", (), lambda job: None) == "DECLINED"
    snapshot = broken_worker.snapshot(job.id)
    assert snapshot.state is JobState.RUNNING
    assert snapshot.attempts == {"done": 0, "failed": 0, "lost": 0, "released": 1}
    reason = broken_worker.declined(job.id)["host:1:broken"]["reason"]
    assert reason.startswith("the engine folder, model or temporary folder of the worker on")
    assert str(tmp_path / "file") in reason
    assert broken_worker.claim(job.id, "00000", "t", "host:2:sound").answer == "LEASED"
