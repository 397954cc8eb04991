"""One way through: a row and an example change rooms seldom, and go down rather than up and down.

``docs/architecture.md`` shows the ways, and what they were before there were rooms.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from earlier import JOB, earlier_spec
from ways import Way, way_of

from jobs.ledger.ledger import Ledger
from jobs.ledger.messages import Publisher
from jobs.settings import settings
from jobs.specs import job_id
from jobs.train.request import TrainRequest, train_spec
from jobs.train.submit import TRAIN_SHARD, submit_train
from mtl_core.pulse import no_pulse
from mtl_core.training.checkpoint import CheckpointFolder
from worker import engines
from worker.label import answer_shard, prepare_shard, write_shard
from worker.lease.attempt import Attempt
from worker.lease.heartbeat import Heartbeat
from worker.train import train_model

pytestmark = pytest.mark.slow

STILL: Any = SimpleNamespace(progress=lambda done: None, confirm=lambda: None, pulse=no_pulse)


class Saved(BaseException):
    """The first checkpoint is reached."""


@dataclass
class Shard:
    """The ways of a shard's three steps; each is a thread's."""

    prepare: Way
    answer: Way
    write: Way

    @property
    def stays(self) -> int:
        """Stays of all three; the worker's own, where each begins, counts once."""
        return 1 + sum(len(way.stays) - 1 for way in (self.prepare, self.answer, self.write))

    @property
    def climbs(self) -> int:
        """Climbs of all three."""
        return self.prepare.climbs + self.answer.climbs + self.write.climbs


@pytest.fixture
def shards(tmp_path: Path) -> tuple[Shard, Shard]:
    """The ways of a worker's first shard, which loads the engine, and of its second."""
    spec = earlier_spec(tmp_path)
    engines._engines.clear()
    engines._model_folder.cache_clear()

    def way(shard: str) -> Shard:
        definition = {"file": f"shard-{shard}.parquet", "rows": 2}
        attempt = Attempt(JOB, spec, shard, "a" * 32, 1, definition, "w")
        made: list[Any] = []
        return Shard(
            way_of(lambda: made.append(prepare_shard(attempt, STILL))),
            way_of(lambda: made.append(answer_shard(made[0], STILL.progress))),
            way_of(lambda: write_shard(attempt, *made, STILL)),
        )

    return way("00000"), way("00001")


def test_a_shard_changes_rooms_at_most_thirteen_times_and_climbs_twice(
    shards: tuple[Shard, Shard],
) -> None:
    first, second = shards
    assert second.stays <= 13, second
    assert second.climbs <= 2, second
    assert first.stays <= 18, first
    assert first.climbs <= 5, first


def test_an_example_goes_from_its_file_to_the_checkpoint_with_four_returns(
    redis_url: str,
    tiny_backbone: Path,
    made_data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = tmp_path / "data"
    shutil.copytree(made_data, data)
    settings.cache_clear()
    request = TrainRequest("recommended", str(data), str(tiny_backbone), None, {"epochs": 1})
    spec = train_spec(request, "freeze-backbone", "m", settings())
    ledger, job = Ledger(redis_url, settings()), job_id(spec)
    submit_train(ledger, Publisher(redis_url), spec, "normal")
    assert ledger.claim(job, TRAIN_SHARD, "token", "w").answer == "LEASED"

    def save(*_: object) -> None:
        raise Saved

    monkeypatch.setattr(CheckpointFolder, "save", save)

    def train() -> None:
        attempt = Attempt(job, spec, TRAIN_SHARD, "token", 1, {}, "w")
        with pytest.raises(Saved), Heartbeat(ledger, job, TRAIN_SHARD, "token") as heartbeat:
            train_model(ledger, attempt, heartbeat)

    way = way_of(train)
    assert len(set(way.stays)) <= 10, way
    assert way.returns <= 4, way
