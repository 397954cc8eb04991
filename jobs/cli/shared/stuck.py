"""Recognising jobs that nobody works on any more, so that watching them comes to an end."""

import time
from collections.abc import Sequence

from jobs.ledger.ledger import Ledger
from jobs.ledger.lifecycle import PLANNABLE
from jobs.ledger.presence import Presence, planner_lock
from jobs.ledger.snapshot import Snapshot

STUCK_S = 10.0
"""A job is stuck when nobody has worked on it for so long. It is alone for a moment between any two
steps, too."""
EMBEDDED_HINT = "none; a command brings its own, as long as MTL_REDIS_URL is unset"
SHARED_HINT = "none; start one with `mtl worker`"


class Watched:
    """Is shown jobs again and again, and tells which of them rest or are stuck."""

    def __init__(self, ledger: Ledger, *, embedded: bool) -> None:
        self.ledger, self.embedded = ledger, embedded
        self._alone_since: dict[str, float] = {}

    def rests(self, snapshots: Sequence[Snapshot]) -> bool:
        """Take note of how the jobs stand; returns whether none will go on by itself."""
        alone = [self.stuck(snapshot) for snapshot in snapshots]  # no generator: each must be noted
        return all(s.resting or left for s, left in zip(snapshots, alone, strict=True))

    def stuck(self, snapshot: Snapshot) -> bool:
        """Whether a job has been left alone for a while."""
        if not self._alone(snapshot):
            self._alone_since.pop(snapshot.id, None)
            return False
        since = self._alone_since.setdefault(snapshot.id, time.monotonic())
        return time.monotonic() - since > STUCK_S

    def _alone(self, snapshot: Snapshot) -> bool:
        if snapshot.resting:
            return False
        if snapshot.state in PLANNABLE:
            return not self.ledger.redis.exists(planner_lock(snapshot.id))
        return self.embedded and not Presence(self.ledger.redis).workers()

    def hint(self, snapshots: Sequence[Snapshot]) -> list[str]:
        """What to do about jobs that are stuck, a line each."""
        return [
            f"{s.id}: nobody is at it; the command that started it goes on with it, "
            f"`mtl cancel {s.id}` ends it"
            for s in snapshots
            if self.stuck(s)
        ]


def no_workers(*, embedded: bool) -> str:
    """What is said where there is no worker. On an embedded Redis no user can start one."""
    return EMBEDDED_HINT if embedded else SHARED_HINT
