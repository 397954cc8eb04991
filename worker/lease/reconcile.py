"""The reconciler: the only recovery path. Every worker runs one; one of them acts at a time.

Each round ends leases that ran out, hints again at shards that nobody holds, has settled jobs
finalised, and closes cancelled jobs. That heals a lost message, a lost finaliser and the death of a
worker at any point.
"""

import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial

import redis

from jobs.ledger import cancel
from jobs.ledger.connection import PASSING_ERRORS
from jobs.ledger.ledger import ALL_MESSAGES_REACHED, Ledger
from jobs.ledger.lifecycle import JobState
from jobs.ledger.messages import Publisher, queue_name, waiting
from jobs.ledger.presence import Lock, Presence
from jobs.ledger.replicas import Continuity
from jobs.ledger.sentinel import NoReplicasError
from jobs.ledger.snapshot import Snapshot
from mtl_core.errors import JobError, LedgerUnreachableError
from worker.process.children import ChildWatch

# How long a message that a job is settled may wait in a full queue before another is sent.
FINALISE_AGAIN_S = 60.0
# A job fails when all workers have declined it for so many rounds.
LASTING_ROUNDS = 2
LAST_ROUND_S = 10.0
SHOWN_REASONS = 3

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Member:
    """A worker as it announces itself."""

    name: str
    queues: tuple[str, ...]
    children: int


class Reconciler(threading.Thread):
    """A thread of the worker's parent process that reconciles, round after round."""

    def __init__(
        self, ledger: Ledger, publisher: Publisher, member: Member, parent_pid: int | None
    ) -> None:
        super().__init__(name="reconciler", daemon=True)
        self._ledger, self._publisher, self._member = ledger, publisher, member
        self._presence = Presence(ledger.redis)
        self._children = ChildWatch(ledger, self._presence, member.name)
        self._continuity = Continuity(ledger.redis)
        self._lock = Lock(ledger.redis, "mtl:reconciler")
        self._parent_pid = parent_pid
        self._last_round: float | None = None
        self._expire_from = 0.0
        self._over = threading.Event()
        self.failure = ""
        """Why the reconciler made this worker leave; empty if it did not."""

    def run(self) -> None:
        """Reconcile until :meth:`stop`; if the reconciler fails, the whole worker leaves."""
        try:
            while not self._over.is_set():
                self._round()
                self._over.wait(self._ledger.settings.reconcile_s)
        except BaseException as error:
            log.critical("the reconciler ended", exc_info=True)
            self._fail(f"the reconciler ended ({error!r})")

    def _round(self) -> None:
        """Take all steps once; a step that fails is logged, and the next round tries it again."""
        for step in (self._announce, self._children.check, self._reconcile, self._leave_if_unfit):
            try:
                step()
            except (*PASSING_ERRORS, LedgerUnreachableError) as error:
                log.warning("%s", without_redis(error))
                break
            except Exception:
                log.exception("a step of the reconciler failed; the next round tries again")
        self._leave_with_parent()

    def _announce(self) -> None:
        seconds = 3 * self._ledger.settings.reconcile_s + 1
        member = self._member
        self._presence.announce(member.name, seconds, member.queues, member.children)

    def _reconcile(self) -> None:
        expire = self._may_expire()  # asked each time: it looks at Redis
        if self._lock.hold(2 * self._ledger.settings.reconcile_s + 1):
            reconcile(self._ledger, self._publisher, expire=expire)
        self._last_round = time.monotonic()

    def _leave_if_unfit(self) -> None:
        """Leave when every child of this worker fails at what others do."""
        unfit = self._presence.unfit(self._member.name)
        if len(unfit) >= self._member.children:
            self._fail(f"this worker fails at what others do; {'; '.join(unfit.values())}")

    def _fail(self, reason: str) -> None:
        log.critical("leaving: %s", reason)
        self.failure = reason
        self._over.set()
        os.kill(os.getpid(), signal.SIGTERM)

    def stop(self) -> None:
        """End after the current round; hint at what this worker gave back, and say it has gone.

        It may be the last one. If nobody hinted, a queue by whose length workers are started
        (``deploy/kubernetes/keda``) would stay empty.
        """
        self._over.set()
        if self.is_alive():
            self.join(self._ledger.settings.reconcile_s)
        try:
            if self._lock.hold(LAST_ROUND_S):
                reconcile(self._ledger, self._publisher, expire=False)
            self._lock.release()
            self._presence.leave(self._member.name)
        except (redis.RedisError, LedgerUnreachableError) as error:
            log.warning("%s", without_redis(error))

    def _may_expire(self) -> bool:
        """Whether leases that ran out may be ended now.

        Not when Redis was out of reach or has just come back, or another has taken over: then live
        workers could not beat either, or their last beats were lost, and they get one lease's time
        to do so.
        """
        settings, now = self._ledger.settings, time.monotonic()
        gap = now - self._last_round if self._last_round is not None else 0.0
        redis_now, happened = self._continuity.look()
        if happened is not None:
            log.warning("%s", happened)
        if happened is not None or gap > settings.reconcile_s + settings.lease_s / 2:
            self._expire_from = now + settings.lease_s
        if redis_now.uptime_s < settings.lease_s:
            self._expire_from = max(self._expire_from, now + settings.lease_s - redis_now.uptime_s)
        return now >= self._expire_from

    def _leave_with_parent(self) -> None:
        """An embedded worker leaves when the command that started it is gone."""
        if self._parent_pid is not None and os.getppid() != self._parent_pid:
            log.warning("the command that started this worker is gone; leaving")
            os.kill(os.getpid(), signal.SIGTERM)
            self._over.set()


def reconcile(ledger: Ledger, publisher: Publisher, *, expire: bool) -> None:
    """Reconcile once every job that has not ended; a job at which that fails stops no other.

    Args:
        expire: whether leases that ran out may be ended.
    """
    reached = cache(partial(reached_ms, ledger))  # once for each queue in a round
    for job in ledger.active_jobs():
        try:
            _reconcile_job(ledger, publisher, job, reached, expire=expire)
        except (*PASSING_ERRORS, LedgerUnreachableError):
            raise
        except JobError as error:
            log.info("%s", error)  # the job was forgotten just now
        except Exception:
            log.exception("%s cannot be reconciled", job)


def _reconcile_job(
    ledger: Ledger, publisher: Publisher, job: str, reached: Callable[[str], int], *, expire: bool
) -> None:
    snapshot = ledger.snapshot(job)
    queue = queue_name(snapshot.kind, snapshot.priority)
    found = ledger.reconcile(
        job, ledger.settings.reconcile_s, expire=expire, reached_ms=reached(queue)
    )
    presence = Presence(ledger.redis)
    for child, reason in found.unfit.items():
        log.error("%s cannot do %s: %s", child, job, reason)
        presence.note_unfit(child.rpartition("#")[0], child, f"{job}: {reason}")
    if snapshot.state is JobState.CANCELLING:
        if not snapshot.workers:
            ledger.transition(job, JobState.CANCELLED, cancel.REASON)
    elif snapshot.state in (JobState.RUNNING, JobState.FINALISING) and found.settled:
        _hint_to_finalise(ledger, publisher, snapshot)
    elif snapshot.state in (JobState.PLANNING, JobState.RUNNING):
        if found.due:
            log.info("hinting again at %d shards of %s", len(found.due), job)
            publisher.shards(snapshot.kind, snapshot.priority, job, found.due)
        give_up_if_nobody_can(ledger, presence.serving(queue), job)


def reached_ms(ledger: Ledger, queue: str) -> int:
    """The time, in ms, up to which all messages put into a queue have been taken out of it.

    A queue hands out its messages in order. So if a pending shard's message is older than the
    oldest waiting message, it is lost, however long the queue is.
    """
    if not ledger.redis.llen(queue):
        return ALL_MESSAGES_REACHED
    times = (ledger.published_ms(job, shard) for job, shard in waiting(ledger.redis, queue))
    return next((time_ms for time_ms in times if time_ms), 0)


def _hint_to_finalise(ledger: Ledger, publisher: Publisher, snapshot: Snapshot) -> None:
    """Send a message that a job is settled; while messages wait, every :data:`FINALISE_AGAIN_S`."""
    hinted = Lock(ledger.redis, f"mtl:{{{snapshot.id}}}:finalise-hint")
    queue = queue_name(snapshot.kind, "high")
    if hinted.hold(FINALISE_AGAIN_S) or not ledger.redis.llen(queue):
        publisher.finalise(snapshot.kind, snapshot.id)


def give_up_if_nobody_can(ledger: Ledger, serving: Mapping[str, Sequence[str]], job: str) -> None:
    """Fail a job that every present worker has declined for :data:`LASTING_ROUNDS` rounds.

    Args:
        serving: the workers that serve the job's queue, with the names of their children.
    """
    declined = ledger.declined(job)
    if not declined or not serving:
        return
    if any(not _declines(name, children, declined) for name, children in serving.items()):
        return
    newest_ms = max(entry["at_ms"] for entry in declined.values())
    if ledger.now_ms() - newest_ms < LASTING_ROUNDS * ledger.settings.reconcile_s * 1000:
        return  # another worker may be starting
    reasons = sorted({entry["reason"] for entry in declined.values()})
    more = f" (and {len(reasons) - SHOWN_REASONS} more)" if len(reasons) > SHOWN_REASONS else ""
    reason = f"{'; '.join(reasons[:SHOWN_REASONS])}{more}"
    ledger.transition(job, JobState.FAILED, reason, only_from=(JobState.PLANNING, JobState.RUNNING))


def _declines(name: str, children: Sequence[str], declined: Mapping[str, object]) -> bool:
    return name in declined or all(child in declined for child in children)


def without_redis(error: Exception) -> str:
    """What a worker says while Redis is gone or full."""
    if isinstance(error, redis.OutOfMemoryError) or "OOM" in str(error):
        return "Redis is full: free memory or raise its maxmemory; this worker waits"
    if isinstance(error, NoReplicasError):
        return "Redis takes no writes: too few replicas follow it; this worker waits"
    return f"Redis does not answer ({error}); this worker waits"
