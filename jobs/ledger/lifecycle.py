"""The states of a job and the only steps allowed between them.

::

    queued ─► planning ─► running ─► finalising ─► done | partial
       │          │          │            │
       ├──────────┴──────────┼────────────┼─► failed       nothing more can be done
       │                     └────────────┴─► paused       something must be mended first
       └─► cancelling ─► cancelled                         also from planning, running, paused
    partial | failed | paused | cancelled ─► queued        `mtl retry`, or submitted again
"""

from enum import StrEnum

PRIORITIES = ("high", "normal", "low")
"""Priorities of jobs, in the order in which workers serve them."""


class JobState(StrEnum):
    """The state of a job."""

    QUEUED = "queued"
    PLANNING = "planning"
    RUNNING = "running"
    FINALISING = "finalising"
    DONE = "done"
    PARTIAL = "partial"
    FAILED = "failed"
    CANCELLING = "cancelling"
    CANCELLED = "cancelled"
    PAUSED = "paused"


S = JobState

TRANSITIONS: dict[JobState, frozenset[JobState]] = {
    S.QUEUED: frozenset({S.PLANNING, S.RUNNING, S.FAILED, S.CANCELLING}),
    S.PLANNING: frozenset({S.RUNNING, S.FAILED, S.CANCELLING, S.PAUSED}),
    S.RUNNING: frozenset({S.FINALISING, S.FAILED, S.CANCELLING, S.PAUSED}),
    S.FINALISING: frozenset({S.DONE, S.PARTIAL, S.FAILED, S.PAUSED}),
    S.PAUSED: frozenset({S.QUEUED, S.CANCELLING}),
    S.CANCELLING: frozenset({S.CANCELLED}),
    S.DONE: frozenset(),
    S.PARTIAL: frozenset({S.QUEUED}),
    S.FAILED: frozenset({S.QUEUED}),
    S.CANCELLED: frozenset({S.QUEUED}),
}

ENDED = frozenset({S.DONE, S.PARTIAL, S.FAILED, S.CANCELLED})
"""States of a job that is over."""

RESTING = ENDED | {S.PAUSED}
"""States in which nothing more happens to a job until somebody acts: it is over, or paused."""

PLANNABLE = frozenset({S.QUEUED, S.PLANNING})
"""States of a job whose input has not been read to its end yet."""


def allowed_from(target: JobState) -> list[JobState]:
    """States from which a job may step to ``target``."""
    return [state for state, targets in TRANSITIONS.items() if target in targets]
