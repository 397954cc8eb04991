"""A parent watches its children: if a child died or hangs, its attempt is ended at once.

Without it a dead child's shard would wait for its lease to end, and a hung child, whose heartbeat
thread lives on, would keep its shard for ever.
"""

import logging
import os
import time
from contextlib import suppress

import psutil

from jobs.ledger.connection import PASSING_ERRORS
from jobs.ledger.ledger import Ledger
from jobs.ledger.outcome import Outcome
from jobs.ledger.presence import Busy, Presence
from worker.process.metrics import LEASES_LOST

# How far two readings of one process's birth may differ: they change when a clock is set.
SAME_BIRTH_S = 10.0

log = logging.getLogger(__name__)


class ChildWatch:
    """Checks what this worker's children say they are busy with."""

    def __init__(self, ledger: Ledger, presence: Presence, worker: str) -> None:
        self._ledger, self._presence, self._worker = ledger, presence, worker
        # token -> (progress and pulse at their last change, monotonic time of that change)
        self._progress: dict[str, tuple[tuple[int, int], float]] = {}

    def check(self) -> None:
        """Look at all children once; end the attempts of dead ones, kill stalled ones."""
        seen = set()
        for busy in self._presence.busy(self._worker):
            seen.add(busy.token)
            try:
                self._look_at(busy)
            except PASSING_ERRORS:
                raise
            except Exception:  # the others are looked at all the same
                log.exception("%s/%s: the child at it cannot be looked at", busy.job, busy.shard)
        self._progress = {t: p for t, p in self._progress.items() if t in seen}

    def _look_at(self, busy: Busy) -> None:
        process = child_at(busy)
        if process is None:
            self._end(busy, "the worker's process died (killed, crashed or out of memory)")
        elif not busy.idle and self._stalled(busy):
            log.error("%s/%s: no progress; killing process %d", busy.job, busy.shard, busy.pid)
            with suppress(psutil.NoSuchProcess):
                process.kill()
            self._end(busy, f"no progress within {self._ledger.settings.stall_s:g} s")

    def _end(self, busy: Busy, reason: str) -> None:
        shard = (busy.job, busy.shard, busy.token)
        if busy.idle:
            answer = self._ledger.release(*shard, reason)
        else:
            answer = self._ledger.fail(*shard, reason, outcome="lost")
        if answer != Outcome.STALE:  # if stale, the child held no lease any more, or none yet
            LEASES_LOST.inc()
        self._presence.end(self._worker, busy)
        log.warning("%s/%s: %s: %s", busy.job, busy.shard, reason, answer.lower())

    def _stalled(self, busy: Busy) -> bool:
        holder = self._ledger.holder(busy.job, busy.shard)
        # A child whose lease was lost should stop by itself; it gets the same time to do so.
        ours = holder is not None and holder["token"] == busy.token
        progress = (-1, -1)
        if ours and holder is not None:
            progress = int(holder["progress"]), int(holder.get("pulse", 0))
        before = self._progress.get(busy.token)
        if before is None or before[0] != progress:
            self._progress[busy.token] = (progress, time.monotonic())
            return False
        return time.monotonic() - before[1] > self._ledger.settings.stall_s


def child_at(busy: Busy) -> psutil.Process | None:
    """The process that said what it is busy with, if it lives and is a child of this process.

    Its process id alone is no proof. Another process may have that id by now, or the id may be from
    another host, whose worker took the same name.
    """
    try:
        process = psutil.Process(busy.pid)
        ours = process.ppid() == os.getpid()
        same = not busy.born_s or abs(process.create_time() - busy.born_s) < SAME_BIRTH_S
        # A zombie has ended already and was only not reaped yet.
        runs = process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return None
    return process if ours and same and runs else None
