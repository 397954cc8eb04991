"""The ledger: every job, shard, lease and attempt, in Redis. All Redis keys and scripts are here.

The ledger is the truth and messages are hints: a worker that got a message must still claim its
shard, and only the holder of the lease may beat, complete, fail or release it. All changes are
small Lua scripts (``jobs/lua``) that use Redis' own clock.

Keys of one job, all behind ``mtl:{<id>}:`` (one cluster slot):

========== ====== ==========================================================
job        hash   kind, spec, state, reason, times, row counts, ``planned``
shards     hash   shard -> its definition (JSON: ``file``, ``rows``)
pending    zset   shards nobody holds, by the time of their last message
leases     zset   shards somebody holds, by the time the lease ends
holders    hash   shard -> token, worker, attempt, start, progress
attempts   hash   shard -> attempts begun
strikes    hash   shard -> attempts that failed
done       hash   shard -> result of the attempt that completed
poison     hash   shard -> why it was set aside
history    list   the last 1,000 ended attempts, newest first
========== ====== ==========================================================
"""

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib.resources import files
from typing import Any, cast

import redis
from redis.commands.core import Script

from jobs.connection import reachable
from jobs.lifecycle import ENDED, JobState, allowed_from
from jobs.settings import Settings
from jobs.specs import AnySpec, parse_spec
from mtl_core.errors import JobError

JOBS = "mtl:jobs"
WORKER = "mtl:worker:"
RECONCILER = "mtl:reconciler"
PARTS = (
    *("job", "shards", "pending", "leases", "holders"),
    *("attempts", "strikes", "done", "poison", "history"),
)


@dataclass(frozen=True)
class Claim:
    """The ledger's answer to a claim."""

    answer: str
    """LEASED, BUSY, DONE, POISON, CLOSED (the job runs no more) or GONE (no such shard)."""
    attempt: int = 0
    shard: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Counts:
    """Total, done and failed of rows or shards."""

    total: int
    done: int
    failed: int


@dataclass(frozen=True)
class Snapshot:
    """A job as it stands now."""

    id: str
    kind: str
    state: JobState
    reason: str
    rows: Counts
    shards: Counts
    planned: bool
    created_s: float
    changed_s: float
    workers: tuple[str, ...]
    """Workers that hold a shard of it."""
    note: Mapping[str, Any]
    """What a train job last told of itself: stage, step, loss."""

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen by itself."""
        return self.state in ENDED

    @property
    def settled(self) -> bool:
        """Whether every shard of a wholly planned job is done or set aside."""
        return self.planned and self.shards.done + self.shards.failed == self.shards.total

    def as_json(self) -> dict[str, Any]:
        """The public JSON of ``mtl status --json``."""
        return {
            "id": self.id,
            "kind": self.kind,
            "state": str(self.state),
            "reason": self.reason,
            "rows": self.rows.__dict__,
            "shards": self.shards.__dict__,
            "workers": list(self.workers),
            "created": self.created_s,
            "changed": self.changed_s,
            **({"note": dict(self.note)} if self.note else {}),
        }


class Ledger:
    """Reads and changes jobs; one a process, safe to use from several threads."""

    def __init__(self, url: str, settings: Settings) -> None:
        self.url, self.settings = url, settings
        self.redis: redis.Redis = redis.Redis.from_url(
            url,
            decode_responses=True,
            socket_timeout=10,
            socket_connect_timeout=5,
            health_check_interval=30,
        )
        self._scripts: dict[str, Script] = {}

    @cached_property
    def _prelude(self) -> str:
        return (files("jobs") / "lua" / "prelude.lua").read_text()

    def _run(self, script: str, job: str, *arguments: Any) -> Any:
        if script not in self._scripts:
            source = (files("jobs") / "lua" / f"{script}.lua").read_text()
            self._scripts[script] = self.redis.register_script(self._prelude + source)
        return self._scripts[script](keys=[key(job, part) for part in PARTS], args=arguments)

    def ping(self) -> None:
        """Raise LedgerUnreachableError unless Redis answers."""
        with reachable(self.url):
            self.redis.ping()

    # --- jobs

    def create(self, job: str, spec: AnySpec) -> bool:
        """Create a queued job unless it exists; returns whether it is new."""
        text = spec.model_dump_json()
        new = bool(self._run("create", job, job, spec.kind, text))
        self.redis.zadd(JOBS, {job: time.time()}, nx=True)
        return new

    def delete(self, job: str) -> None:
        """Forget a job altogether."""
        self.redis.delete(*(key(job, part) for part in PARTS))
        self.redis.zrem(JOBS, job)

    def spec(self, job: str) -> AnySpec:
        """The job's spec, checked again.

        Raises:
            JobError: no such job, or its spec cannot be read.
        """
        text = self.redis.hget(key(job, "job"), "spec")
        if text is None:
            raise JobError(f"no job '{job}' in this Redis; `mtl jobs` lists what there is")
        return parse_spec(cast(str, text))

    def job_ids(self) -> list[str]:
        """All jobs, newest first."""
        return cast(list[str], self.redis.zrevrange(JOBS, 0, -1))

    def active_jobs(self) -> list[str]:
        """Jobs that have not ended, oldest first: the order in which they are served."""
        ids = self.job_ids()[::-1]
        pipe = self.redis.pipeline(transaction=False)
        for job in ids:
            pipe.hget(key(job, "job"), "state")
        states = pipe.execute()
        return [job for job, state in zip(ids, states, strict=True) if state and state not in ENDED]

    def transition(self, job: str, target: JobState, reason: str = "") -> bool:
        """Step a job to a state, if the lifecycle allows it from where it stands.

        Returns:
            whether it stepped; False also when it is there already.
        """
        answer = self._run("transition", job, str(target), reason, *allowed_from(target))
        return bool(answer == "")

    def state(self, job: str) -> JobState:
        """The job's state alone.

        Raises:
            JobError: no such job.
        """
        value = self.redis.hget(key(job, "job"), "state")
        if value is None:
            raise JobError(f"no job '{job}' in this Redis; `mtl jobs` lists what there is")
        return JobState(cast(str, value))

    def reopen(self, job: str) -> None:
        """Queue an ended job again: finished shards stay, set-aside ones get fresh attempts."""
        if not self.transition(job, JobState.QUEUED):
            return
        poisoned = cast(dict[str, str], self.redis.hgetall(key(job, "poison")))
        rows = sum(self._shard_rows(job, shard) for shard in poisoned)
        pipe = self.redis.pipeline()
        pipe.delete(key(job, "poison"), key(job, "strikes"))
        pipe.hincrby(key(job, "job"), "rows_failed", -rows)
        for shard in poisoned:
            pipe.zadd(key(job, "pending"), {shard: 0})
        pipe.execute()

    def _shard_rows(self, job: str, shard: str) -> int:
        return int(json.loads(cast(str, self.redis.hget(key(job, "shards"), shard)))["rows"])

    def update(self, job: str, **fields: str | int | float) -> None:
        """Set plain fields of a job: planning's row counts, a training run's note."""
        self.redis.hset(key(job, "job"), mapping={k: str(v) for k, v in fields.items()})

    def snapshot(self, job: str) -> Snapshot:
        """The job as it stands.

        Raises:
            JobError: no such job.
        """
        pipe = self.redis.pipeline(transaction=False)
        pipe.hgetall(key(job, "job"))
        for part in ("shards", "done", "poison"):
            pipe.hlen(key(job, part))
        pipe.hvals(key(job, "holders"))
        fields, shards, done, poison, held = pipe.execute()
        if not fields:
            raise JobError(f"no job '{job}' in this Redis; `mtl jobs` lists what there is")
        holders = [json.loads(text) for text in held]
        progress = sum(int(holder.get("progress", 0)) for holder in holders)
        rows_done = int(fields["rows_done"]) + progress
        return Snapshot(
            id=job,
            kind=fields["kind"],
            state=JobState(fields["state"]),
            reason=fields["reason"],
            rows=Counts(
                int(fields["rows_total"]),
                rows_done,
                int(fields["rows_failed"]) + int(fields.get("rows_bad", 0)),
            ),
            shards=Counts(shards, done, poison),
            planned=fields["planned"] == "1",
            created_s=int(fields["created_ms"]) / 1000,
            changed_s=int(fields["changed_ms"]) / 1000,
            workers=tuple(sorted({holder["worker"] for holder in holders})),
            note=json.loads(fields.get("note", "{}")),
        )

    # --- shards

    def add_shards(self, job: str, shards: Mapping[str, Mapping[str, Any]]) -> list[str]:
        """Add shards that are new; returns their names. The others stand as they were."""
        flat = [part for name, shard in shards.items() for part in (name, json.dumps(shard))]
        return cast(list[str], self._run("add_shards", job, *flat)) if flat else []

    def claim(self, job: str, shard: str, token: str, worker: str) -> Claim:
        """Ask for a shard's lease; an expired lease of another is ended first."""
        answer, *rest = self._run(
            "claim", job, shard, token, worker, self._lease_ms, self.settings.max_attempts
        )
        if answer != "LEASED":
            return Claim(answer)
        return Claim(answer, int(rest[0]), json.loads(rest[1]))

    def beat(self, job: str, shard: str, token: str, progress: int) -> str:
        """Extend a lease. Returns OK, CLOSED (stop, the job runs no more) or STALE (lease lost)."""
        return cast(str, self._run("beat", job, shard, token, self._lease_ms, progress))

    def complete(self, job: str, shard: str, token: str, result: Mapping[str, Any]) -> str:
        """Record a shard's result. Returns OK, LAST (all are settled), DUPLICATE or STALE."""
        return cast(str, self._run("complete", job, shard, token, json.dumps(result)))

    def fail(self, job: str, shard: str, token: str, reason: str) -> str:
        """Count a failed attempt. Returns RETRY, POISON, LAST or STALE."""
        return cast(str, self._run("fail", job, shard, token, reason, self.settings.max_attempts))

    def release(self, job: str, shard: str, token: str, reason: str) -> str:
        """Give a shard back uncounted. Returns OK or STALE."""
        return cast(str, self._run("release", job, shard, token, reason))

    def reconcile(self, job: str, stale_s: float, limit: int = 1000) -> tuple[bool, list[str]]:
        """Expire leases; returns whether all shards are settled, and shards to publish again."""
        settled, *due = self._run(
            "reconcile", job, self.settings.max_attempts, int(stale_s * 1000), limit
        )
        return settled == "SETTLED", due

    def results(self, job: str) -> dict[str, dict[str, Any]]:
        """Results of all completed shards, by shard."""
        return {s: json.loads(v) for s, v in self.redis.hscan_iter(key(job, "done"), count=1000)}

    def poisoned(self, job: str) -> dict[str, str]:
        """Why each set-aside shard was set aside."""
        return cast(dict[str, str], self.redis.hgetall(key(job, "poison")))

    def shards(self, job: str) -> dict[str, dict[str, Any]]:
        """Definitions of all shards."""
        return {s: json.loads(v) for s, v in self.redis.hscan_iter(key(job, "shards"), count=1000)}

    def attempts(self, job: str) -> list[dict[str, Any]]:
        """Ended attempts, newest first, at most 1,000."""
        found = cast(list[str], self.redis.lrange(key(job, "history"), 0, -1))
        return [json.loads(text) for text in found]

    @property
    def _lease_ms(self) -> int:
        return int(self.settings.lease_s * 1000)

    # --- workers and locks

    def announce(self, worker: str, seconds: float) -> None:
        """Say that a worker lives, for the next ``seconds``."""
        self.redis.set(WORKER + worker, "1", ex=max(1, round(seconds)))

    def workers(self) -> list[str]:
        """Workers that lately said they live."""
        return sorted(name.removeprefix(WORKER) for name in self.redis.scan_iter(WORKER + "*"))

    def lock(self, name: str, token: str, seconds: float) -> bool:
        """Take or keep a lock for ``seconds``; False when another holds it."""
        taken = self.redis.set(name, token, nx=True, px=int(seconds * 1000))
        if not taken and self.redis.get(name) == token:
            self.redis.pexpire(name, int(seconds * 1000))
            return True
        return bool(taken)

    def unlock(self, name: str, token: str) -> None:
        """Give a lock back if it is still this token's."""
        if self.redis.get(name) == token:
            self.redis.delete(name)


def key(job: str, part: str) -> str:
    """The Redis key of one part of a job."""
    return f"mtl:{{{job}}}:{part}"
