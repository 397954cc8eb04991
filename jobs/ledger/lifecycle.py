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
"""Of jobs, in the order in which workers serve them."""


class JobState(StrEnum):
    """Where a job stands."""

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
"""Nothing more will happen by itself, and nothing waits."""

RESTING = ENDED | {S.PAUSED}
"""Nothing more will happen until somebody acts."""

PLANNABLE = frozenset({S.QUEUED, S.PLANNING})
"""Its input is to be read still."""


def allowed_from(target: JobState) -> list[JobState]:
    """States from which a job may step to ``target``."""
    return [state for state, targets in TRANSITIONS.items() if target in targets]
