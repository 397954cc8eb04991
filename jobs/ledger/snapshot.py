"""A job as the ledger shows it at one moment."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from jobs.ledger.lifecycle import ENDED, RESTING, JobState
from jobs.ledger.outcome import Outcome

OUTCOMES = ("done", "failed", "lost", "released")
"""How an attempt can end."""


@dataclass(frozen=True)
class Claim:
    """The ledger's answer to a claim."""

    answer: Outcome
    """LEASED, or why there is no lease: BUSY, DONE, POISON, CLOSED, GONE, DECLINED or DOUBTED."""
    attempt: int = 0
    shard: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Reconciled:
    """What the reconciler found when it looked at one job's leases and shards."""

    settled: bool
    """Whether all shards of a wholly planned job are done or set aside."""
    due: list[str]
    """Pending shards to publish. The ledger counts them as published already."""
    unfit: dict[str, str]
    """Children that failed in a row at several shards which others completed, with the reasons."""


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
    priority: str
    rows: Counts
    shards: Counts
    planned: bool
    created_s: float
    changed_s: float
    workers: tuple[str, ...]
    """Workers that hold a shard of the job."""
    note: Mapping[str, Any]
    """What a train job last reported: stage, step, loss."""
    attempts: Mapping[str, int]
    """How many attempts of the job have ended in each way of OUTCOMES."""

    @property
    def ended(self) -> bool:
        """Whether the job is over."""
        return self.state in ENDED

    @property
    def resting(self) -> bool:
        """Whether nothing more will happen by itself."""
        return self.state in RESTING

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
            "priority": self.priority,
            "rows": self.rows.__dict__,
            "shards": self.shards.__dict__,
            "workers": list(self.workers),
            "created": self.created_s,
            "changed": self.changed_s,
            **({"note": dict(self.note)} if self.note else {}),
        }
