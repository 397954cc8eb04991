"""The ledger's scripts under random interleavings: no row lost, none done twice."""

import uuid

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from specs import TRAIN_SPEC

from jobs.ledger.ledger import Ledger
from jobs.ledger.lifecycle import JobState
from jobs.ledger.scripts import key
from jobs.settings import Settings

JOB = "train-model"
SHARD_ROWS = (1, 9, 20)
picks = st.integers(0, 10_000)


class LedgerMachine(RuleBasedStateMachine):
    """Workers that claim, beat, complete, fail, vanish and come back too late."""

    url = ""

    @initialize()
    def plan(self) -> None:
        self.ledger = Ledger(self.url, Settings(lease_s=600, max_attempts=2))
        self.ledger.redis.flushall()
        self.ledger.create(JOB, TRAIN_SPEC)
        self.ledger.add_shards(JOB, {str(n): {"rows": rows} for n, rows in enumerate(SHARD_ROWS)})
        self.ledger.update(JOB, planned=1, rows_total=sum(SHARD_ROWS))
        self.ledger.transition(JOB, JobState.RUNNING)
        self.held: dict[str, str] = {}  # token -> shard, leases that should hold
        self.lost: dict[str, str] = {}  # token -> shard, leases that ended
        self.done: set[str] = set()

    def teardown(self) -> None:
        self.ledger.redis.close()

    def pick(self, number: int, choices: list[str]) -> str | None:
        return sorted(choices)[number % len(choices)] if choices else None

    @rule(number=picks)
    def claim(self, number: int) -> None:
        shard = self.pick(number, list(self.ledger.shards(JOB)))
        assert shard is not None
        token = uuid.uuid4().hex
        claim = self.ledger.claim(JOB, shard, token, "worker", insist=True)
        is_open = self.ledger.state(JOB) is JobState.RUNNING
        free = shard not in self.done and shard not in self.held.values()
        free = free and shard not in self.ledger.poisoned(JOB)
        assert (claim.answer == "LEASED") == (is_open and free)
        if claim.answer == "LEASED":
            self.held[token] = shard

    @rule(number=picks)
    def beat(self, number: int) -> None:
        token = self.pick(number, [*self.held, *self.lost])
        if token is not None:
            answer = self.ledger.beat(JOB, (self.held | self.lost)[token], token, 1)
            assert (answer == "STALE") == (token in self.lost)

    @rule(number=picks)
    def complete(self, number: int) -> None:
        token = self.pick(number, [*self.held, *self.lost])
        if token is None:
            return
        shard = (self.held | self.lost)[token]
        rows = self.ledger.shards(JOB).get(shard, {"rows": 0})["rows"]
        answer = self.ledger.complete(JOB, shard, token, {"rows": rows, "failed": 0})
        assert (answer in ("OK", "LAST")) == (token in self.held)
        if token in self.held:
            assert shard not in self.done
            self.done.add(shard)
            self.lost[token] = self.held.pop(token)

    @rule(number=picks)
    def fail(self, number: int) -> None:
        token = self.pick(number, list(self.held))
        if token is not None:
            assert self.ledger.fail(JOB, self.held[token], token, "it broke") != "STALE"
            self.lost[token] = self.held.pop(token)

    @rule(number=picks)
    def release(self, number: int) -> None:
        token = self.pick(number, list(self.held))
        if token is not None:
            assert self.ledger.release(JOB, self.held[token], token, "leaving") == "OK"
            self.lost[token] = self.held.pop(token)

    @rule(number=picks)
    def a_lease_runs_out(self, number: int) -> None:
        token = self.pick(number, list(self.held))
        if token is not None:
            self.ledger.redis.zadd(key(JOB, "leases"), {self.held[token]: 0})
            self.ledger.reconcile(JOB, stale_s=0, expire=True)
            self.lost[token] = self.held.pop(token)

    @rule()
    def plan_again(self) -> None:
        again = {str(n): {"rows": rows} for n, rows in enumerate(SHARD_ROWS)}
        assert self.ledger.add_shards(JOB, again) == []

    @rule()
    def cancel_and_retry(self) -> None:
        if self.ledger.transition(JOB, JobState.CANCELLING, "by its user"):
            for token, shard in list(self.held.items()):
                assert self.ledger.beat(JOB, shard, token, 1) == "CLOSED"
            self.ledger.transition(JOB, JobState.CANCELLED)
        self.ledger.reopen(JOB)

    @invariant()
    def every_row_is_in_exactly_one_shard(self) -> None:
        if not hasattr(self, "held"):
            return
        rows = {n: [0] * count for n, count in enumerate(SHARD_ROWS)}
        for name, shard in self.ledger.shards(JOB).items():
            offset = shard.get("offset", 0)
            for row in range(offset, offset + shard["rows"]):
                rows[int(name.split(".")[0])][row] += 1
        assert all(count == 1 for counts in rows.values() for count in counts)

    @invariant()
    def every_shard_is_in_exactly_one_place(self) -> None:
        if not hasattr(self, "held"):
            return
        places = [
            *self.ledger.results(JOB),
            *self.ledger.poisoned(JOB),
            *self.ledger.redis.zrange(key(JOB, "pending"), 0, -1),
            *self.ledger.redis.zrange(key(JOB, "leases"), 0, -1),
        ]
        assert sorted(places) == sorted(self.ledger.shards(JOB))
        assert set(self.ledger.results(JOB)) == self.done
        assert set(self.held.values()) == set(self.ledger.redis.zrange(key(JOB, "leases"), 0, -1))

    @invariant()
    def the_counts_are_those_of_the_shards(self) -> None:
        if not hasattr(self, "held"):
            return
        shards, snapshot = self.ledger.shards(JOB), self.ledger.snapshot(JOB)
        running = sum(1 for token in self.held if self._progress(token))
        assert snapshot.rows.done == sum(shards[s]["rows"] for s in self.done) + running
        assert snapshot.rows.failed == sum(shards[s]["rows"] for s in self.ledger.poisoned(JOB))

    def _progress(self, token: str) -> int:
        holder = self.ledger.holder(JOB, self.held[token])
        return int(holder["progress"]) if holder else 0


@pytest.mark.timeout(120)
def test_no_row_is_lost_or_done_twice_whatever_workers_do(redis_url: str) -> None:
    LedgerMachine.url = redis_url
    state_machine = LedgerMachine.TestCase
    state_machine.settings = settings(
        max_examples=40,
        stateful_step_count=40,
        deadline=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    state_machine().runTest()
