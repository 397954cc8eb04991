"""The ledger: every job, shard, lease and attempt, in Redis, and all that changes them.

The ledger is the truth and messages are hints: a worker that got a message must still claim its
shard, and only the holder of the lease may beat, complete, fail or release it. All changes are
small Lua scripts (``jobs/ledger/lua``) that use Redis' own clock.

Keys of one job, all behind ``mtl:{<id>}:`` (one cluster slot):

========== ====== ==========================================================
job        hash   kind, spec, state, reason, times, row counts, ``planned``, what
                  planning has added; whom to tell of its end (``notices.py``)
shards     hash   shard -> its definition (JSON: ``file``, ``rows``, ``offset``)
pending    zset   shards nobody holds, by the time of their last message
leases     zset   shards somebody holds, by the time the lease ends
holders    hash   shard -> token, worker, attempt, start, progress
attempts   hash   shard -> attempts begun
strikes    hash   shard -> attempts that failed
done       hash   shard -> result of the attempt that completed
poison     hash   shard -> why it was set aside
history    list   the last 1,000 ended attempts, newest first
split      set    shards that were split into pieces
declined   hash   worker, or ``worker#child`` -> why it cannot do the job
failing    hash   ``worker#child`` -> shards it failed at since it last did one
========== ====== ==========================================================
"""

import json
import time
from collections.abc import Collection, Mapping
from typing import Any, cast

from jobs.ledger.connection import client, reachable
from jobs.ledger.lifecycle import ENDED, JobState, allowed_from
from jobs.ledger.outcome import Outcome
from jobs.ledger.records import JOBS, Records
from jobs.ledger.scripts import Scripts, key, keys_of
from jobs.ledger.snapshot import Claim, Reconciled
from jobs.settings import Settings
from jobs.specs import AnySpec

BARREN_LIMIT = 40
"""After so many failed attempts in a row, with no shard completed between them, a job is given up.
The rows are not to blame then, and splitting every shard down to single rows would take for
ever."""
HINTS = 1000
"""How many shards of a job one round of the reconciler publishes again, at most."""
ALL_MESSAGES_REACHED = 2**52
"""Value of ``reached_ms`` in :meth:`Ledger.reconcile` where no message waits in any queue."""


class JobClosed(Exception):
    """The job takes no more shards: it was cancelled or paused, has ended, or was forgotten."""


class Ledger(Records):
    """Reads and changes jobs. A process needs one only: several threads may use it."""

    def __init__(self, url: str, settings: Settings, patience: int = 3) -> None:
        """Make a client; it connects at the first call.

        Args:
            patience: how often a call is tried again while Redis is gone, loading or full; the
                tries are a second apart at most. A script may be run twice by that, so every
                script gives the same answer the second time.
        """
        self.url, self.settings = url, settings
        super().__init__(client(url, patience))
        self._run = Scripts(self.redis, patience).run

    def ping(self) -> None:
        """Raise LedgerUnreachableError unless Redis answers."""
        with reachable(self.url):
            self.redis.ping()

    # --- jobs

    def create(self, job: str, spec: AnySpec, priority: str = "normal") -> bool:
        """Create a queued job unless it exists; returns whether it is new."""
        text = spec.model_dump_json()
        # Listed first: if Redis loses its last writes, no job is left that is in no list. Listed
        # again, because a name without a job may have been dropped meanwhile.
        self.redis.zadd(JOBS, {job: time.time()}, nx=True)
        new = bool(self._run("create", job, job, spec.kind, text, priority))
        self.redis.zadd(JOBS, {job: time.time()}, nx=True)
        return new

    def delete(self, job: str) -> None:
        """Forget a job altogether."""
        self.redis.delete(*keys_of(job))
        self.redis.zrem(JOBS, job)

    def transition(
        self,
        job: str,
        target: JobState,
        reason: str = "",
        only_from: Collection[JobState] = tuple(JobState),
    ) -> bool:
        """Move a job to another state, if the lifecycle allows that from its present state.

        Args:
            reason: why, for the user.
            only_from: allow the step from these states alone.
        Returns:
            whether the job was moved; False also when it was in that state already.
        """
        keep_s = self.settings.retention_s if target in ENDED else 0
        sources = [state for state in allowed_from(target) if state in only_from]
        answer = self._run("transition", job, target, reason, int(keep_s), *sources)
        return bool(answer == "")

    def reopen(self, job: str) -> None:
        """Let a resting job go on: done shards stay, set-aside ones get fresh attempts.

        The job is then ``running``, or ``queued`` if its planning had not been completed. A job in
        any state that may not be queued again is left as it is.
        """
        self._run("reopen", job, *allowed_from(JobState.QUEUED))

    def update(self, job: str, **fields: str | int | float) -> None:
        """Set plain fields of a job: planning's row counts, a training run's note.

        Nothing is set for a job that has been forgotten meanwhile.
        """
        self._run("update", job, *(str(part) for pair in fields.items() for part in pair))

    def forget_expired(self) -> list[str]:
        """Drop jobs from the list whose records have expired; returns them."""
        ids = self.job_ids()
        gone = [job for job in ids if not self.redis.exists(key(job, "job"))]
        if gone:
            self.redis.zrem(JOBS, *gone)
        return gone

    # --- shards

    def add_shards(self, job: str, shards: Mapping[str, Mapping[str, Any]]) -> list[str]:
        """Add the shards that the job does not have yet, and return the names of these.

        Shards that the job has already are left as they are.

        Raises:
            JobClosed: the job takes no more shards.
        """
        flat = [part for name, shard in shards.items() for part in (name, json.dumps(shard))]
        added = self._run("add_shards", job, *flat) if flat else []
        if added is None:
            raise JobClosed(f"{job} takes no more shards; `mtl status {job}` says why")
        return cast(list[str], added)

    def close_plan(self, job: str, shards: int, rows: int) -> bool:
        """Note that a job is wholly planned, if the ledger has all that its planner added.

        Args:
            shards: how many shards the planner has added, those of earlier tries included.
            rows: how many rows these hold.
        Returns:
            whether it has; if not, Redis has lost some of them (``replicas.py``), and to plan again
            adds those that are missing.
        """
        return bool(self._run("planned", job, shards, rows))

    def claim(
        self, job: str, shard: str, token: str, worker: str, child: int = 0, *, insist: bool = False
    ) -> Claim:
        """Ask for a shard's lease; asking again with the same token gives the same answer.

        Args:
            child: which of the worker's children asks, from 0.
            insist: claim the shard although this child has failed at it, or at several others.
        """
        asked = (shard, token, worker, self._lease_ms, child, int(insist))
        answer, *rest = self._run("claim", job, *asked)
        if answer != Outcome.LEASED:
            return Claim(Outcome(answer))
        return Claim(Outcome.LEASED, int(rest[0]), json.loads(rest[1]))

    def beat(self, job: str, shard: str, token: str, progress: int, pulse: int = 0) -> Outcome:
        """Extend a lease. Returns OK, CLOSED (stop, the job runs no more) or STALE (lease lost).

        Args:
            progress: rows done.
            pulse: how many signs of life there have been so far; for work that does not advance
                row by row.
        """
        return Outcome(self._run("beat", job, shard, token, self._lease_ms, progress, pulse))

    def complete(self, job: str, shard: str, token: str, result: Mapping[str, Any]) -> Outcome:
        """Record a shard's result. Returns OK, LAST (all are settled), DUPLICATE or STALE."""
        return Outcome(self._run("complete", job, shard, token, json.dumps(result)))

    def fail(
        self, job: str, shard: str, token: str, reason: str, *, outcome: str = "failed"
    ) -> Outcome:
        """Count a failed attempt. Returns RETRY, SPLIT (into pieces), POISON, LAST or STALE.

        Args:
            outcome: ``failed`` when the attempt said so itself, ``lost`` when its process died.
        """
        limit = self.settings.max_attempts
        answer = Outcome(self._run("fail", job, shard, token, reason, limit, outcome))
        self._give_up_if_barren(job)
        return answer

    def _give_up_if_barren(self, job: str) -> None:
        """Fail a job whose last BARREN_LIMIT attempts all failed.

        A call that is lost does no harm: the next one does the same.
        """
        pair = self.redis.hmget(key(job, "job"), ["barren", "last_failure"])
        barren, reason = cast(list[str | None], pair)
        if int(barren or 0) >= BARREN_LIMIT:
            said = f"{BARREN_LIMIT} attempts in a row failed; the last: {reason}"
            open_states = (JobState.PLANNING, JobState.RUNNING)
            self.transition(job, JobState.FAILED, said, only_from=open_states)

    def release(self, job: str, shard: str, token: str, reason: str) -> Outcome:
        """Give a shard back; the attempt does not count as failed. Returns OK or STALE."""
        return Outcome(self._run("release", job, shard, token, reason))

    def decline(self, job: str, shard: str, token: str, reason: str) -> Outcome:
        """Give a shard back because this worker cannot do the job. Returns OK or STALE.

        The attempt does not count as failed.
        """
        return Outcome(self._run("decline", job, shard, token, reason))

    def note_unfinalised(self, job: str, reason: str) -> int:
        """Note why a job could not be finalised.

        Returns:
            how often that has happened so far; 0 if the job is not ``finalising``.
        """
        return int(self._run("unfinalised", job, reason))

    def reconcile(
        self,
        job: str,
        stale_s: float,
        *,
        expire: bool,
        reached_ms: int = ALL_MESSAGES_REACHED,
    ) -> Reconciled:
        """End leases that ran out (if ``expire``), pick shards to publish, find unfit children.

        Args:
            stale_s: a message that was sent less than so many seconds ago may still be on its way.
            reached_ms: a message that was sent before this time (Redis' clock) waits in no queue
                any more.
        """
        asked_ms = self.now_ms() if expire else 0
        limits = (self.settings.max_attempts, int(stale_s * 1000), HINTS)
        fields = json.loads(self._run("reconcile", job, *limits, asked_ms, reached_ms))
        self._give_up_if_barren(job)
        return Reconciled(fields["settled"], fields.get("due", []), fields.get("unfit", {}))

    @property
    def _lease_ms(self) -> int:
        return int(self.settings.lease_s * 1000)
