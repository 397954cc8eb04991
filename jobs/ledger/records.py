"""Reading jobs from the ledger: what their keys in Redis hold, and Redis' own clock."""

import json
from typing import Any, cast

import redis

from jobs.ledger.lifecycle import ENDED, JobState
from jobs.ledger.scripts import key
from jobs.ledger.snapshot import OUTCOMES, Counts, Snapshot
from jobs.specs import AnySpec, parse_spec
from mtl_core.errors import JobError
from mtl_core.suggest import nearest

JOBS = "mtl:jobs"


class Records:
    """Reads jobs and changes nothing."""

    def __init__(self, client: redis.Redis) -> None:
        self.redis = client

    # --- jobs

    def spec(self, job: str) -> AnySpec:
        """The job's spec, checked again.

        Raises:
            JobError: no such job, or its spec cannot be read.
        """
        text = self.redis.hget(key(job, "job"), "spec")
        if text is None:
            raise self._no_job(job)
        return parse_spec(cast(str, text))

    def _no_job(self, job: str) -> JobError:
        near = nearest(job, self.job_ids())
        hint = f"did you mean {near}? " if near else ""
        return JobError(f"no job '{job}' in this Redis; {hint}`mtl jobs` lists what there is")

    def growth(self, job: str) -> float | None:
        """How many times as large as usual the job's shards may be; None before it is planned."""
        found = cast(str | None, self.redis.hget(key(job, "job"), "growth"))
        return float(found) if found else None

    def strikes(self, job: str, shard: str) -> int:
        """How many attempts at a shard failed."""
        return int(cast(str | None, self.redis.hget(key(job, "strikes"), shard)) or 0)

    def job_ids(self) -> list[str]:
        """All jobs, newest first."""
        return cast(list[str], self.redis.zrevrange(JOBS, 0, -1))

    def active_jobs(self) -> list[str]:
        """Jobs that have not ended, oldest first: the order in which they are served."""
        ids = self.job_ids()[::-1]
        pipe = self.redis.pipeline(transaction=False)
        for job in ids:
            pipe.hget(key(job, "job"), "state")
        states = pipe.execute(raise_on_error=False)  # a broken record must not hide the others
        known = set(JobState) - ENDED
        return [job for job, state in zip(ids, states, strict=True) if state in known]

    def state(self, job: str) -> JobState:
        """The job's state, without the rest of its record.

        Raises:
            JobError: no such job.
        """
        value = self.redis.hget(key(job, "job"), "state")
        if value is None:
            raise self._no_job(job)
        return JobState(cast(str, value))

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
            raise self._no_job(job)
        holders = [json.loads(text) for text in held]
        progress = sum(int(holder.get("progress", 0)) for holder in holders)
        rows_done = int(fields["rows_done"]) + progress
        rows_failed = int(fields["rows_failed"]) + int(fields.get("rows_bad", 0))
        return Snapshot(
            id=job,
            kind=fields["kind"],
            state=JobState(fields["state"]),
            reason=fields["reason"],
            priority=fields["priority"],
            rows=Counts(int(fields["rows_total"]), rows_done, rows_failed),
            shards=Counts(shards, done, poison),
            planned=fields["planned"] == "1",
            created_s=int(fields["created_ms"]) / 1000,
            changed_s=int(fields["changed_ms"]) / 1000,
            workers=tuple(sorted({holder["worker"] for holder in holders})),
            note=json.loads(fields.get("note", "{}")),
            attempts={each: int(fields.get(f"attempts_{each}", 0)) for each in OUTCOMES},
        )

    # --- shards

    def published_ms(self, job: str, shard: str) -> int:
        """When a pending shard's last message was sent (Redis' clock); 0 if that is not known."""
        return int(cast(float | None, self.redis.zscore(key(job, "pending"), shard)) or 0)

    def now_ms(self) -> int:
        """Redis' own clock."""
        seconds, microseconds = cast(tuple[int, int], self.redis.time())
        return seconds * 1000 + microseconds // 1000

    def results(self, job: str) -> dict[str, dict[str, Any]]:
        """Results of all completed shards, by shard."""
        return self._hash(job, "done")

    def poisoned(self, job: str) -> dict[str, str]:
        """Why each set-aside shard was set aside."""
        return cast(dict[str, str], self.redis.hgetall(key(job, "poison")))

    def shards(self, job: str) -> dict[str, dict[str, Any]]:
        """Definitions of all shards."""
        return self._hash(job, "shards")

    def holder(self, job: str, shard: str) -> dict[str, Any] | None:
        """Who holds a shard: token, worker, attempt, start, progress."""
        text = self.redis.hget(key(job, "holders"), shard)
        return None if text is None else dict(json.loads(cast(str, text)))

    def attempts(self, job: str) -> list[dict[str, Any]]:
        """Ended attempts, newest first, at most 1,000."""
        found = cast(list[str], self.redis.lrange(key(job, "history"), 0, -1))
        return [json.loads(text) for text in found]

    def declined(self, job: str) -> dict[str, dict[str, Any]]:
        """Workers and single children that cannot do the job, by name.

        Each with ``reason`` and ``at_ms`` (Redis' clock).
        """
        return self._hash(job, "declined")

    def failing(self, job: str) -> dict[str, dict[str, Any]]:
        """Children that failed since they last completed a shard, by name.

        Each with the ``shards`` it failed at, and ``reason`` and ``last_ms`` (Redis' clock) of the
        last failure.
        """
        return self._hash(job, "failing")

    def _hash(self, job: str, part: str) -> dict[str, dict[str, Any]]:
        pairs = self.redis.hscan_iter(key(job, part), count=1000)
        return {name: json.loads(text) for name, text in pairs}
