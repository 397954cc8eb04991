"""A whole job's life in random order, on a real Redis and disk: deaths, retries, late workers.

Two submitters and three workers of the test's own do what the real ones do, with the real ledger,
planner, reconciler and finaliser; only the model is left out. Whatever they do, no row is lost or
doubled in what is finalised, and no job is left in a state that nothing leads out of.
"""

import base64
import json
import shutil
import tempfile
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from specs import lines, spec_for

from jobs.input.source import open_source
from jobs.label.request import LabelJob
from jobs.label.staging import read_shard
from jobs.label.submit import open_again, open_label, plan_label
from jobs.ledger.ledger import Ledger
from jobs.ledger.lifecycle import ENDED, PLANNABLE, RESTING, JobState
from jobs.ledger.messages import FINALISE, Publisher
from jobs.ledger.presence import Presence
from jobs.ledger.scripts import key
from jobs.output.layout import ERRORS, mark, part_name
from jobs.settings import Settings
from jobs.specs import job_id
from mtl_core.storage.parquet import ROW_ID, put_table
from worker.claim import others_may_do
from worker.finaliser import finalise_or_pause
from worker.lease.reconcile import reconcile

EXAMPLES = 30
ROWS, SHARD_ROWS, ROUNDS = 23, 9, 8
WORKERS = ("host:1:a", "host:2:b", "host:3:c")
picks = st.integers(0, 10_000)
workers = st.sampled_from(WORKERS)
submitters = st.integers(0, 1)


@dataclass
class Held:
    """A lease that a worker believes in."""

    worker: str
    shard: str
    token: str
    attempt: int
    definition: dict[str, Any]
    part: str = ""
    """Written, and not yet told to the ledger."""
    rows: int = 0
    sha256: str = ""


class Interrupted(Exception):
    """The submitter was killed."""


class JobMachine(RuleBasedStateMachine):
    """One job at a time, of an output folder that may be deleted and made anew."""

    url = ""

    @initialize()
    def begin(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="mtl-model-"))
        path = lines(self.folder / "in.txt", [f"sentence {n}" for n in range(ROWS)])
        self.spec = spec_for(path, self.folder / "out", shard_rows=SHARD_ROWS)
        self.job = job_id(self.spec)
        # A round apart is as good as nothing: what is stale is told by the queue.
        config = Settings(lease_s=600, reconcile_s=0.001, max_attempts=2, retention_s=600)
        self.ledgers = [Ledger(self.url, config) for _ in range(2)]
        self.ledger = self.ledgers[0]
        self.ledger.redis.flushall()
        self.publisher = Publisher(self.url)
        self.held: list[Held] = []
        self.bad_row: int | None = None
        for worker in WORKERS:
            Presence(self.ledger.redis).announce(worker, 600)
        self.submit(0)

    # --- submitters

    def label_job(self) -> LabelJob:
        return LabelJob(self.job, self.spec, open_source(self.spec.inputs, (), set()))

    @rule(who=submitters)
    def submit(self, who: int) -> None:
        self.submit_until(who, lambda: None)

    @rule(who=submitters)
    def submit_and_die_while_planning(self, who: int) -> None:
        def die() -> None:
            raise Interrupted

        self.submit_until(who, die)

    @rule(who=submitters)
    def submit_and_be_cancelled_while_planning(self, who: int) -> None:
        self.submit_until(who, self.cancel)

    def submit_until(self, who: int, planned: Callable[[], Any]) -> None:
        job = self.label_job()
        if job.finished:
            return
        open_label(self.ledgers[who], job, "normal")
        self.plan(who, job, planned)

    def plan(self, who: int, job: LabelJob, planned: Callable[[], Any]) -> None:
        with suppress(Interrupted):
            plan_label(self.ledgers[who], self.publisher, job, planned)

    @rule(really=st.booleans())
    def be_cancelled(self, really: bool) -> None:
        if really:
            self.cancel()

    def cancel(self) -> None:
        self.ledger.transition(self.job, JobState.CANCELLING, "by its user")

    @rule(who=submitters)
    def retry(self, who: int) -> None:
        if self.state() in RESTING - {JobState.DONE}:
            job = self.label_job()
            open_again(self.ledgers[who], job)
            self.plan(who, job, lambda: None)

    @rule()
    def forget_and_submit_anew(self) -> None:
        """``mtl jobs --prune``; a worker may hold a shard of it still."""
        if self.state() in ENDED:
            self.ledger.delete(self.job)
            shutil.rmtree(self.folder / "out", ignore_errors=True)
            self.submit(0)

    # --- workers

    @rule(worker=workers)
    def take_message(self, worker: str) -> None:
        for queue in ("label.high", "label"):
            message = self.ledger.redis.rpop(queue)
            if message is not None:
                self.work_on(worker, str(message))
                return

    def work_on(self, worker: str, message: str) -> None:
        body = json.loads(message)
        arguments = json.loads(base64.b64decode(body["body"]))[0]
        if body["headers"]["task"] == FINALISE:
            finalise_or_pause(self.ledger, arguments[0])
        else:
            self.claim(worker, arguments[1])

    @rule(worker=workers)
    def do_a_shard(self, worker: str) -> None:
        for held in self.taken(worker):
            self.finish(held)

    @rule(worker=workers)
    def write_a_part_and_fall_asleep(self, worker: str) -> None:
        for held in self.taken(worker):
            self.write(held)
            self.run_out(held)

    def taken(self, worker: str) -> list[Held]:
        """The lease that a message brought, if any."""
        before = len(self.held)
        self.take_message(worker)
        return self.held[before:]

    def finish(self, held: Held) -> None:
        first = held.definition.get("offset", 0) + SHARD_ROWS * int(held.shard.split(".")[0])
        if self.bad_row in range(first, first + held.definition["rows"]):
            self.fail_at(held)
            return
        answer = self.ledger.beat(self.job, held.shard, held.token, 1)
        if answer == "OK":
            self.write(held)
            self.tell(held)
        else:
            self.drop(held, answer)

    @rule(row=st.one_of(st.none(), st.integers(0, ROWS - 1)))
    def a_row_is_bad(self, row: int | None) -> None:
        self.bad_row = row

    @rule(worker=workers)
    def go_on_until_nothing_is_left_to_do(self, worker: str) -> None:
        for _ in range(ROUNDS):
            reconcile(self.ledger, self.publisher, expire=True)
            while self.waiting():
                self.do_a_shard(worker)

    def waiting(self) -> bool:
        return bool(self.ledger.redis.llen("label.high") or self.ledger.redis.llen("label"))

    @rule(worker=workers, number=picks)
    def take_a_message_sent_twice(self, worker: str, number: int) -> None:
        shards = sorted(self.ledger.shards(self.job))
        if shards:
            self.claim(worker, shards[number % len(shards)])

    def claim(self, worker: str, shard: str) -> None:
        token = uuid.uuid4().hex
        claim = self.ledger.claim(self.job, shard, token, worker)
        if claim.answer == "DOUBTED" and not others_may_do(self.ledger, self.job, shard, worker, 0):
            claim = self.ledger.claim(self.job, shard, token, worker, insist=True)
        if claim.answer == "LEASED":
            assert claim.shard is not None
            self.held.append(Held(worker, shard, token, claim.attempt, dict(claim.shard)))

    def pick(self, number: int) -> Held:
        return self.held[number % len(self.held)]

    @precondition(lambda self: self.held)
    @rule(number=picks)
    def beat(self, number: int) -> None:
        held = self.pick(number)
        answer = self.ledger.beat(self.job, held.shard, held.token, 1)
        if answer != "OK":
            self.drop(held, answer)

    def drop(self, held: Held, answer: str) -> None:
        """As a worker does that is told to stop."""
        if answer == "CLOSED":
            self.ledger.release(self.job, held.shard, held.token, "closed")
        self.take_back(held)

    def take_back(self, held: Held) -> None:
        self.held.remove(held)
        if held.part:
            (self.folder / "out" / held.part).unlink(missing_ok=True)

    @precondition(lambda self: self.held)
    @rule(number=picks)
    def write_part(self, number: int) -> None:
        held = self.pick(number)
        answer = self.ledger.beat(self.job, held.shard, held.token, 1)
        if answer != "OK":  # nothing is written under a lease that is not sure
            self.drop(held, answer)
        elif not held.part:
            self.write(held)

    def write(self, held: Held) -> None:
        output = self.label_job().output
        table = read_shard(output, held.definition).select([ROW_ID])
        part = part_name(held.shard, held.attempt, held.token)
        written = put_table(output, part, table, mark(self.job))
        held.part, held.rows, held.sha256 = part, len(table), written.sha256

    @precondition(lambda self: self.held)
    @rule(number=picks)
    def complete(self, number: int) -> None:
        held = self.pick(number)
        if held.part:
            self.tell(held)

    def tell(self, held: Held) -> None:
        counts = dict.fromkeys(("failed", "truncated", "duplicates", "cached", "tokens"), 0)
        result = {"part": held.part, "rows": held.rows, "errors": "", "sha256": held.sha256}
        result["worker"] = held.worker
        result |= counts | {"engine": "none", "precision": "none"}
        answer = self.ledger.complete(self.job, held.shard, held.token, result)
        if answer == "STALE":
            self.take_back(held)
            return
        self.held.remove(held)
        if answer == "LAST":
            finalise_or_pause(self.ledger, self.job)

    @precondition(lambda self: self.held)
    @rule(number=picks)
    def fail(self, number: int) -> None:
        self.fail_at(self.pick(number))

    def fail_at(self, held: Held) -> None:
        self.take_back(held)
        if self.ledger.fail(self.job, held.shard, held.token, "it broke") == "LAST":
            finalise_or_pause(self.ledger, self.job)

    @precondition(lambda self: self.held)
    @rule(number=picks)
    def release(self, number: int) -> None:
        held = self.pick(number)
        self.take_back(held)
        self.ledger.release(self.job, held.shard, held.token, "leaving")

    @precondition(lambda self: self.held)
    @rule(number=picks, really=st.integers(0, 3))
    def decline(self, number: int, really: int) -> None:
        held = self.pick(number)
        if really:
            return
        self.take_back(held)
        self.ledger.decline(self.job, held.shard, held.token, "no room")

    @precondition(lambda self: self.held)
    @rule(number=picks)
    def die(self, number: int) -> None:
        held = self.pick(number)
        self.held.remove(held)  # and its part, if written, stays
        self.run_out(held)

    @precondition(lambda self: self.held)
    @rule(number=picks)
    def fall_asleep_past_the_lease(self, number: int) -> None:
        self.run_out(self.pick(number))

    def run_out(self, held: Held) -> None:
        holder = self.ledger.holder(self.job, held.shard)
        if holder is not None and holder["token"] == held.token:
            self.ledger.redis.zadd(key(self.job, "leases"), {held.shard: 0}, xx=True)

    # --- recovery

    @rule()
    def reconcile(self) -> None:
        reconcile(self.ledger, self.publisher, expire=True)

    @rule()
    def lose_a_message(self) -> None:
        self.ledger.redis.rpop("label")

    # --- what must hold

    def state(self) -> JobState | None:
        value = self.ledger.redis.hget(key(self.job, "job"), "state")
        return JobState(str(value)) if value else None

    @invariant()
    def each_shard_is_in_one_place(self) -> None:
        if not hasattr(self, "held") or self.state() is None:
            return
        client = self.ledger.redis
        places = [
            *self.ledger.results(self.job),
            *self.ledger.poisoned(self.job),
            *client.zrange(key(self.job, "pending"), 0, -1),
            *client.zrange(key(self.job, "leases"), 0, -1),
        ]
        assert sorted(places) == sorted(self.ledger.shards(self.job))
        leases = sorted(client.zrange(key(self.job, "leases"), 0, -1))
        assert leases == sorted(client.hkeys(key(self.job, "holders")))

    @invariant()
    def counts_are_those_of_the_shards(self) -> None:
        if not hasattr(self, "held") or self.state() is None:
            return
        fields = self.ledger.redis.hgetall(key(self.job, "job"))
        shards = self.ledger.shards(self.job)
        done = sum(result["rows"] for result in self.ledger.results(self.job).values())
        assert int(fields["rows_done"]) == done
        set_aside = sum(shards[name]["rows"] for name in self.ledger.poisoned(self.job))
        assert int(fields["rows_failed"]) == set_aside
        if fields["planned"] == "1":
            assert sum(shard["rows"] for shard in shards.values()) == ROWS

    @invariant()
    def no_row_is_lost_or_doubled_in_what_is_finalised(self) -> None:
        if hasattr(self, "held") and self.state() in (JobState.DONE, JobState.PARTIAL):
            self.check_output()

    def check_output(self) -> None:
        out = self.folder / "out"
        manifest = json.loads((out / "_manifest.json").read_text())
        listed = {part["part"] for part in manifest["parts"]}
        files = [*(out / name for name in listed), *(out / ERRORS).glob("*.parquet")]
        rows = [row for file in files for row in pq.read_table(file)[ROW_ID].to_pylist()]
        assert sorted(rows) == list(range(ROWS))
        unsure = {held.part for held in self.held}  # a late worker's, which it will take away
        parts = {path.name for path in out.glob("part-*.parquet")} - {"part-empty.parquet"}
        assert parts - unsure == listed

    def teardown(self) -> None:
        if not hasattr(self, "held"):
            return
        try:
            self.end_well()
        finally:
            for ledger in self.ledgers:
                ledger.redis.close()
            self.publisher.close()
            shutil.rmtree(self.folder, ignore_errors=True)

    def end_well(self) -> None:
        """With a healthy worker, a reconciler and a user who retries, every job ends."""
        late, self.held, self.bad_row = self.held, [], None
        for held in late:
            self.run_out(held)
        if self.state() is None:
            return
        healthy = "host:4:d"
        Presence(self.ledger.redis).announce(healthy, 600)
        for _ in range(ROUNDS):
            state = self.state()
            if state is JobState.DONE:
                break
            if state in PLANNABLE:
                self.submit(0)
            elif state in RESTING:
                self.retry(0)
            self.go_on_until_nothing_is_left_to_do(healthy)
        assert self.state() is JobState.DONE
        self.held = late
        for held in [*late]:  # whoever slept wakes up after all is over
            if held.part:
                self.tell(held)
        self.held = []
        self.check_output()


@pytest.mark.timeout(300)
def test_no_row_is_lost_or_doubled_and_every_job_ends_whatever_happens(redis_url: str) -> None:
    JobMachine.url = redis_url
    machine = JobMachine.TestCase
    machine.settings = settings(
        max_examples=EXAMPLES,
        stateful_step_count=40,
        deadline=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    machine().runTest()


def test_a_late_worker_of_a_job_made_anew_touches_no_part_of_the_winners(redis_url: str) -> None:
    JobMachine.url = redis_url
    life = JobMachine()
    life.begin()
    try:
        life.write_a_part_and_fall_asleep(WORKERS[0])
        (late,) = life.held
        life.go_on_until_nothing_is_left_to_do(WORKERS[1])
        life.forget_and_submit_anew()
        life.do_a_shard(WORKERS[1])
        life.write(late)  # both are attempt 1 at the same shard
        life.go_on_until_nothing_is_left_to_do(WORKERS[1])
        assert life.state() is JobState.DONE
        life.tell(late)
        life.check_output()
    finally:
        life.teardown()
