"""What a worker may believe of its lease."""

import time

import pytest

from jobs.ledger.ledger import Ledger
from jobs.ledger.lifecycle import JobState
from jobs.settings import Settings
from jobs.specs import TrainSpec
from worker.lease.heartbeat import Heartbeat, StopWork

JOB = "train-x"
QUICK = Settings(lease_s=0.6, beat_s=0.1)


@pytest.fixture
def ledger(redis_url: str) -> Ledger:
    """A running job of one shard, which worker a holds."""
    spec = TrainSpec(
        name="m", output="/m", data_dir=None, preset="recommended", scenario="frozen",
        settings={}, backbone="b", tasks=(), command="mtl train",
    )  # fmt: skip
    ledger = Ledger(redis_url, QUICK)
    ledger.create(JOB, spec)
    ledger.add_shards(JOB, {"0": {"rows": 1}})
    ledger.update(JOB, planned=1)
    ledger.transition(JOB, JobState.RUNNING)
    ledger.claim(JOB, "0", "token-a", "worker-a")
    return ledger


def test_nothing_is_published_while_redis_cannot_be_asked(ledger: Ledger, redis_url: str) -> None:
    with Heartbeat(ledger, JOB, "0", "token-a") as heartbeat:
        heartbeat.confirm()  # fresh from its claim
        Ledger(redis_url, QUICK).redis.execute_command("CLIENT", "PAUSE", "1500", "ALL")
        paused = time.monotonic()
        time.sleep(0.8)  # a lease's time
        heartbeat.confirm()
        assert time.monotonic() - paused > 1.4


def test_a_worker_that_lost_its_lease_meanwhile_publishes_nothing(ledger: Ledger) -> None:
    with Heartbeat(Ledger(ledger.url, QUICK), JOB, "0", "token-a") as heartbeat:
        holder = ledger.holder(JOB, "0")
        assert holder is not None
        ledger.fail(JOB, "0", "token-a", "as if it had expired", outcome="lost")
        ledger.claim(JOB, "0", "token-b", "worker-b")
        time.sleep(0.7)
        with pytest.raises(StopWork, match="STALE"):
            heartbeat.confirm()
