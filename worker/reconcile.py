"""The reconciler: the one recovery path, run all the time by every worker, one at a time.

Each round ends leases that ran out, hints again at shards nobody holds, has settled jobs
finalised, and closes cancelled ones. It heals a lost message, a lost finaliser and a worker that
died anywhere.
"""

import logging
import os
import signal
import threading
import time

import redis

from jobs.ledger import Ledger
from jobs.lifecycle import JobState
from jobs.messages import Publisher, queue_name
from jobs.presence import Lock, Presence
from mtl_core.errors import LedgerUnreachableError
from worker.children import ChildWatch

log = logging.getLogger(__name__)


class Reconciler(threading.Thread):
    """A thread of the worker's parent process."""

    def __init__(
        self, ledger: Ledger, publisher: Publisher, worker: str, parent_pid: int | None
    ) -> None:
        super().__init__(name="reconciler", daemon=True)
        self._ledger, self._publisher, self._worker = ledger, publisher, worker
        self._presence = Presence(ledger.redis)
        self._children = ChildWatch(ledger, self._presence, worker)
        self._lock = Lock(ledger.redis, "mtl:reconciler")
        self._parent_pid = parent_pid
        self._last_round: float | None = None
        self._expire_from = 0.0
        self._over = threading.Event()

    def run(self) -> None:
        """Reconcile until :meth:`stop`; a failed round is logged and the next one tries again."""
        interval = self._ledger.settings.reconcile_s
        while not self._over.is_set():
            try:
                self._presence.announce(self._worker, 3 * interval + 1)
                self._children.check()
                if self._lock.hold(2 * interval + 1):
                    reconcile(self._ledger, self._publisher, expire=self._may_expire())
                self._last_round = time.monotonic()
            except (redis.RedisError, LedgerUnreachableError) as error:
                log.warning("%s", without_redis(error))
            self._leave_with_parent()
            self._over.wait(interval)

    def stop(self) -> None:
        """End after the current round; say that this worker has gone."""
        self._over.set()
        try:
            self._lock.release()
            self._presence.leave(self._worker)
        except redis.RedisError as error:
            log.warning("%s", without_redis(error))

    def _may_expire(self) -> bool:
        """Whether leases that ran out may be ended now.

        Not when Redis was out of reach or has just come back: then live workers could not beat
        either, and they get one lease's time to do so.
        """
        settings, now = self._ledger.settings, time.monotonic()
        gap = now - self._last_round if self._last_round is not None else 0.0
        if gap > settings.reconcile_s + settings.lease_s / 2:
            self._expire_from = now + settings.lease_s
        uptime_s = self._ledger.uptime_s()
        if uptime_s < settings.lease_s:
            self._expire_from = max(self._expire_from, now + settings.lease_s - uptime_s)
        return now >= self._expire_from

    def _leave_with_parent(self) -> None:
        """An embedded worker leaves when the command that started it is gone."""
        if self._parent_pid is not None and os.getppid() != self._parent_pid:
            log.warning("the command that started this worker is gone; leaving")
            os.kill(os.getpid(), signal.SIGTERM)
            self._over.set()


def reconcile(ledger: Ledger, publisher: Publisher, *, expire: bool) -> None:
    """One round over all jobs that have not ended."""
    for job in ledger.active_jobs():
        snapshot = ledger.snapshot(job)
        kind, priority = snapshot.kind, snapshot.priority
        found = ledger.reconcile(job, stale_s=ledger.settings.reconcile_s, expire=expire)
        settled, due = found.settled, found.due
        if snapshot.state is JobState.CANCELLING:
            if not snapshot.workers:
                ledger.transition(job, JobState.CANCELLED)
        elif snapshot.state in (JobState.RUNNING, JobState.FINALISING) and settled:
            publisher.finalise(kind, job)
        elif (
            due
            and snapshot.state in (JobState.PLANNING, JobState.RUNNING)
            # Only when no message waits can a pending shard's message have been lost.
            and not ledger.redis.llen(queue_name(kind, priority))
        ):
            log.info("hinting again at %d shards of %s", len(due), job)
            publisher.shards(kind, priority, job, due)


def without_redis(error: Exception) -> str:
    """What a worker says while Redis is gone or full."""
    if isinstance(error, redis.OutOfMemoryError) or "OOM" in str(error):
        return "Redis is full: free memory or raise its maxmemory; this worker waits"
    return f"Redis does not answer ({error}); this worker waits"
