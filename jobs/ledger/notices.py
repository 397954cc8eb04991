"""Jobs of which somebody wants to be told when they come to rest."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

from jobs.ledger.ledger import Ledger
from jobs.ledger.lifecycle import JobState
from jobs.ledger.scripts import key
from jobs.ledger.snapshot import Snapshot
from mtl_core.errors import JobError

NOTICES = "mtl:notices"
"""Set of the jobs that have, or may have again, something to tell."""
FINAL = frozenset({JobState.DONE})
"""States that no job leaves."""


@dataclass(frozen=True)
class Notice:
    """That a job has come to rest."""

    url: str
    snapshot: Snapshot

    @property
    def id(self) -> str:
        """The same for the same event, however often it is told."""
        return f"{self.snapshot.id}:{self.snapshot.state}:{self.snapshot.changed_s:.3f}"


def ask(ledger: Ledger, job: str, url: str) -> None:
    """Have an address told whenever a job comes to rest; it takes the place of an earlier one."""
    ledger.update(job, notify=url)
    ledger.redis.sadd(NOTICES, job)


def due(ledger: Ledger) -> Iterator[Notice]:
    """What is still to be told."""
    for job in sorted(cast(set[str], ledger.redis.smembers(NOTICES))):
        try:
            notice = notice_of(ledger, job)
        except JobError:  # it was forgotten
            ledger.redis.srem(NOTICES, job)
            continue
        if notice is not None:
            yield notice


def notice_of(ledger: Ledger, job: str) -> Notice | None:
    """What is still to be told of a job; None if there is nothing.

    Raises:
        JobError: no such job.
    """
    snapshot = ledger.snapshot(job)
    fields = ledger.redis.hmget(key(job, "job"), ["notify", "told"])
    url, told = cast(list[str | None], fields)
    if not url or not snapshot.resting:
        return None
    notice = Notice(url, snapshot)
    return None if notice.id == told else notice


def note_told(ledger: Ledger, notice: Notice) -> None:
    """Note that a notice has arrived, or that nobody tries any more."""
    ledger.update(notice.snapshot.id, told=notice.id, untold="")
    if notice.snapshot.state in FINAL:
        ledger.redis.srem(NOTICES, notice.snapshot.id)


def note_untold(ledger: Ledger, notice: Notice, reason: str) -> None:
    """Note why a notice has not arrived yet."""
    ledger.update(notice.snapshot.id, untold=reason)


def why_untold(ledger: Ledger, job: str) -> str:
    """Why a job's notice has not arrived at the last try; empty if it has, or none was made."""
    return cast(str | None, ledger.redis.hget(key(job, "job"), "untold")) or ""
