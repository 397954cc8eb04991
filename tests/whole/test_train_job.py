"""A train job's attempts: one that was killed late, one that is slow, one that must stop."""

import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from s3_server import S3Server
from support import Workers, wait_until

from jobs.ledger.ledger import Ledger
from jobs.ledger.messages import Publisher
from jobs.ledger.presence import Busy, Presence
from jobs.settings import settings
from jobs.specs import TrainSpec, job_id
from jobs.train.made_by import MADE_BY, finished_result
from jobs.train.request import TrainRequest, train_spec
from jobs.train.submit import TRAIN_SHARD, submit_train
from mtl_core.errors import DataError, JobError, OutputError
from mtl_core.model.copies import CONFIG
from mtl_core.pulse import with_pulse
from mtl_core.storage.address import place_of
from worker.lease.attempt import Attempt
from worker.lease.heartbeat import Heartbeat
from worker.process.children import ChildWatch
from worker.train import train_model

Spec = Callable[..., TrainSpec]


@pytest.fixture
def spec(tiny_backbone: Path, made_data: Path, tmp_path: Path) -> Spec:
    """The spec of a quick train job on a copy of the made data."""
    data = tmp_path / "data"
    shutil.copytree(made_data, data)

    def make(name: str = "m") -> TrainSpec:
        settings.cache_clear()
        request = TrainRequest("recommended", str(data), str(tiny_backbone), None, {"epochs": 1})
        return train_spec(request, "freeze-backbone", name, settings())

    return make


def attempt(redis_url: str, spec: TrainSpec, number: int = 1) -> dict[str, object]:
    """One attempt in this process, from its claim to just before its word that it is complete."""
    ledger, job = Ledger(redis_url, settings()), job_id(spec)
    token = f"token-{number}"
    assert ledger.claim(job, TRAIN_SHARD, token, "w").answer == "LEASED"
    with Heartbeat(ledger, job, TRAIN_SHARD, token) as heartbeat:
        result = train_model(
            ledger, Attempt(job, spec, TRAIN_SHARD, token, number, {}, "w"), heartbeat
        )
    ledger.release(job, TRAIN_SHARD, token, "as if it had been killed")
    return result


def submitted(redis_url: str, spec: TrainSpec) -> tuple[str, bool]:
    ledger = Ledger(redis_url, settings())
    return submit_train(ledger, Publisher(redis_url), spec, "normal")


def test_an_attempt_that_finds_its_jobs_finished_model_says_so_and_trains_nothing(
    redis_url: str, spec: Spec
) -> None:
    submitted(redis_url, spec())
    first = attempt(redis_url, spec())
    model = Path(spec().output)
    before = {path: path.stat().st_mtime_ns for path in model.rglob("*") if path.is_file()}
    again = attempt(redis_url, spec(), 2)
    assert again == {**first, "attempt": 2}
    assert before == {path: path.stat().st_mtime_ns for path in model.rglob("*") if path.is_file()}
    assert set(first["metrics"]) == {"topic", "sentiment"}  # type: ignore[call-overload]


def test_a_model_that_another_job_made_is_left_as_it_is(redis_url: str, spec: Spec) -> None:
    submitted(redis_url, spec())
    place_of(spec().output).write_json(MADE_BY, {"job": "train-other", "files": {}})
    with pytest.raises(OutputError, match="a model of another job appeared"):
        attempt(redis_url, spec())
    Ledger(redis_url, settings()).delete(job_id(spec()))
    with pytest.raises(JobError, match="was trained on other data"):
        submitted(redis_url, spec())
    assert json.loads(place_of(spec().output).read_text(MADE_BY))["job"] == "train-other"


def test_the_same_command_again_joins_and_after_a_lost_ledger_finds_its_model(
    redis_url: str, spec: Spec
) -> None:
    job, new = submitted(redis_url, spec())
    assert new
    attempt(redis_url, spec())
    Ledger(redis_url, settings()).delete(job)  # expired, or another Redis
    assert submitted(redis_url, spec()) == (job, True)
    assert attempt(redis_url, spec())["part"] == spec().output


def test_data_that_changes_after_submit_fails_the_attempt(
    redis_url: str, spec: Spec, tmp_path: Path
) -> None:
    before = spec()
    submitted(redis_url, before)
    file = tmp_path / "data" / "sst2" / "train.parquet"
    pq.write_table(pq.read_table(file).slice(1), file)
    with pytest.raises(DataError, match=r"train\.parquet has changed since the job was submitted"):
        attempt(redis_url, before)
    assert not Path(before.output).exists()
    assert job_id(spec()) != job_id(before)


def test_a_half_published_model_in_a_store_is_made_whole_by_the_same_job(
    redis_url: str, spec: Spec, s3: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MTL_MODELS_DIR", f"{s3.address}/models")
    wanted, job = spec(), job_id(spec())
    submitted(redis_url, wanted)
    first = attempt(redis_url, wanted)
    home = place_of(wanted.output)
    home.delete(CONFIG, "metrics.json")  # as where it was killed before it put these
    assert finished_result(home, job) is None
    assert submitted(redis_url, wanted)[0] == job  # not "there is a model already"
    assert attempt(redis_url, wanted, 2)["sha256"] == first["sha256"]
    assert {CONFIG, "metrics.json", MADE_BY} <= set(home.names())
    assert attempt(redis_url, wanted, 3) == {**first, "attempt": 3}


def test_a_pulse_counts_as_life_where_no_row_is_done(redis_url: str, spec: Spec) -> None:
    monitored = settings().model_copy(update={"stall_s": 0.0, "beat_s": 0.05})
    submitted(redis_url, spec())
    ledger, job = Ledger(redis_url, monitored), job_id(spec())
    watch = ChildWatch(ledger, Presence(ledger.redis), "w")
    ledger.claim(job, TRAIN_SHARD, "t", "w")
    busy = Busy(os.getpid(), job, TRAIN_SHARD, "t")
    assert not watch._stalled(busy)
    assert watch._stalled(busy)
    with Heartbeat(ledger, job, TRAIN_SHARD, "t") as heartbeat:
        heartbeat.pulse()
        wait_until(
            lambda: (ledger.holder(job, TRAIN_SHARD) or {}).get("pulse") == 1,
            *(30, "a beat has told of the pulse"),
        )
    assert not watch._stalled(busy)
    assert watch._stalled(busy)


def test_a_library_call_that_does_not_return_for_long_is_pulsed_and_can_be_left(
    tmp_path: Path,
) -> None:
    fifo, pulses = tmp_path / "fifo", list[int]()
    os.mkfifo(fifo)

    def until_three() -> None:
        pulses.append(1)
        if len(pulses) == 3:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        with_pulse(until_three, fifo.read_text)  # nobody writes
    assert with_pulse(lambda: None, str.upper, "a") == "A"
    with pytest.raises(ZeroDivisionError):
        with_pulse(lambda: None, lambda: 1 / 0)


@pytest.mark.slow
def test_a_worker_that_is_told_to_leave_gives_a_training_back_whatever_its_stage(
    workers: Workers, redis_url: str, spec: Spec
) -> None:
    job, _ = submitted(redis_url, spec())
    worker = workers.start()
    ledger = Ledger(redis_url, settings())
    wait_until(lambda: ledger.holder(job, TRAIN_SHARD) is not None, 100, "the worker has claimed")
    os.kill(worker.pid, signal.SIGTERM)  # while it loads what it needs
    worker.wait(60)
    assert [a["outcome"] for a in ledger.attempts(job)] == ["released"], workers.logs()
