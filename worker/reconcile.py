"""The reconciler: the one recovery path, run all the time by every worker, one at a time.

Each round ends leases that ran out, hints again at shards nobody holds, has settled jobs
finalised, and closes cancelled ones. It heals a lost message, a lost finaliser and a worker that
died anywhere.
"""

import logging
import os
import signal
import threading
import uuid

import redis

from jobs.ledger import RECONCILER, Ledger
from jobs.lifecycle import JobState
from jobs.messages import QUEUES, Publisher
from mtl_core.errors import LedgerUnreachableError

log = logging.getLogger(__name__)


class Reconciler(threading.Thread):
    """A thread of the worker's parent process."""

    def __init__(
        self, ledger: Ledger, publisher: Publisher, worker: str, parent_pid: int | None
    ) -> None:
        super().__init__(name="reconciler", daemon=True)
        self._ledger, self._publisher, self._worker = ledger, publisher, worker
        self._parent_pid = parent_pid
        self._token = uuid.uuid4().hex
        self._over = threading.Event()

    def run(self) -> None:
        """Reconcile until :meth:`stop`; a failed round is logged and the next one tries again."""
        interval = self._ledger.settings.reconcile_s
        while not self._over.is_set():
            try:
                self._ledger.announce(self._worker, 3 * interval + 1)
                if self._ledger.lock(RECONCILER, self._token, 2 * interval + 1):
                    reconcile(self._ledger, self._publisher)
            except (redis.RedisError, LedgerUnreachableError) as error:
                log.warning("reconciler: %s", error)
            self._leave_with_parent()
            self._over.wait(interval)

    def stop(self) -> None:
        """End after the current round and give the lock back."""
        self._over.set()
        try:
            self._ledger.unlock(RECONCILER, self._token)
        except redis.RedisError as error:
            log.warning("reconciler: %s", error)

    def _leave_with_parent(self) -> None:
        """An embedded worker leaves when the command that started it is gone."""
        if self._parent_pid is not None and os.getppid() != self._parent_pid:
            log.warning("the command that started this worker is gone; leaving")
            os.kill(os.getpid(), signal.SIGTERM)
            self._over.set()


def reconcile(ledger: Ledger, publisher: Publisher) -> None:
    """One round over all jobs that have not ended."""
    for job in ledger.active_jobs():
        snapshot = ledger.snapshot(job)
        settled, due = ledger.reconcile(job, stale_s=ledger.settings.reconcile_s)
        if snapshot.state is JobState.CANCELLING:
            if not snapshot.workers:
                ledger.transition(job, JobState.CANCELLED)
        elif snapshot.state in (JobState.RUNNING, JobState.FINALISING) and settled:
            publisher.finalise(snapshot.kind, job)
        elif due and queue_is_empty(ledger, QUEUES[snapshot.kind]):
            log.info("hinting again at %d shards of %s", len(due), job)
            publisher.shards(snapshot.kind, job, due)


def queue_is_empty(ledger: Ledger, queue: str) -> bool:
    """Whether no message waits: only then can a pending shard's message have been lost."""
    return not ledger.redis.llen(queue)
