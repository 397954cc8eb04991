"""One attempt at a shard, from its claim to its end in the ledger."""

import logging
import os
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import replace
from typing import Any, TypeVar

import psutil
import redis

from jobs.label.ended import REASON, end_if_whole
from jobs.ledger.ledger import Ledger
from jobs.ledger.lifecycle import JobState
from jobs.ledger.outcome import Outcome
from jobs.ledger.presence import Busy, Presence
from jobs.output.layout import ERRORS
from jobs.roots import place_inside
from jobs.settings import settings
from jobs.specs import AnySpec, LabelSpec
from mtl_core.engine.faults import is_lasting
from mtl_core.errors import JobError, MtlError, OutputError
from worker.blame import Blame, blame
from worker.claim import claim_shard
from worker.lease.attempt import Attempt
from worker.lease.heartbeat import Heartbeat, StopWork, leaving, unusable
from worker.process import metrics
from worker.process.logs import about
from worker.process.own import ledger, worker_name

log = logging.getLogger(__name__)

# How long a child that was refused a shard waits before it takes the next message: meanwhile others
# can take it.
REFUSED_PAUSE_S = 1.0

Made = TypeVar("Made")


class Held:
    """A shard in this child's hands, from its claim to its end in the ledger.

    A child may hold several at once; each has a lease and beats of its own.
    """

    def __init__(self, attempt: Attempt, busy: Busy) -> None:
        self.attempt, self._busy = attempt, busy
        self.outcome: Outcome | None = None
        """How the attempt ended; None while it goes on."""
        self._beats = ExitStack()
        self.heartbeat = self._beats.enter_context(
            Heartbeat(ledger(), attempt.job, attempt.shard, attempt.token)
        )

    def do(self, step: Callable[[], Made]) -> Made | None:
        """Take a step of the work.

        Returns:
            what the step returned; None if it raised an exception, which ended the attempt.
        """
        with self._about():
            try:
                return step()
            except Exception as error:  # whatever the error, the shard must not be kept
                self._give_up(error)
                return None

    def complete(self, result: Mapping[str, Any]) -> Outcome:
        """Record the result of the whole work, and end."""
        attempt = self.attempt
        with self._about(), self._ending():
            # If this raises, the part stays where it is: Redis may have completed the shard
            # although its answer did not arrive.
            self.outcome = ledger().complete(attempt.job, attempt.shard, attempt.token, result)
            if self.outcome is Outcome.STALE:
                _take_back(attempt, settings().store_patience_s)
            else:
                metrics.count_result(attempt.spec.kind, result)
        return self.outcome

    def idle(self) -> None:
        """Say that the shard waits in this child: if the child dies now, it is not to blame."""
        self._announce(idle=True)

    def at_work(self) -> None:
        """Say that the shard is worked on, as it is from its claim on."""
        self._announce(idle=False)

    def drop(self) -> None:
        """Let go of the shard if its attempt has not ended; nothing is raised."""
        if self.outcome is None:
            with suppress(redis.RedisError):
                self._give_up(StopWork(Outcome.LEAVING))

    def _give_up(self, error: Exception) -> None:
        if is_lasting(error):
            unusable.set()
        with self._ending():
            # Without patience: the lease is running out, and the output's place may be what failed.
            _take_back(self.attempt, patience_s=0)
            stopped = isinstance(error, StopWork)
            self.outcome = (_stop if stopped else _end)(self.attempt, error)  # type: ignore[arg-type]

    def _announce(self, *, idle: bool) -> None:
        if idle == self._busy.idle:
            return
        self._busy = replace(self._busy, idle=idle)
        Presence(ledger().redis).begin(worker_name(), self._busy)

    @contextmanager
    def _ending(self) -> Iterator[None]:
        self._beats.close()
        try:
            yield
        finally:
            self.outcome = self.outcome or Outcome.STALE
            Presence(ledger().redis).end(worker_name(), self._busy)
        log.info("%s/%s: %s", self.attempt.job, self.attempt.shard, self.outcome.lower())
        metrics.ATTEMPTS.labels(self.outcome.lower()).inc()

    def _about(self) -> AbstractContextManager[None]:
        attempt = self.attempt
        return about(
            job=attempt.job, shard=attempt.shard, attempt=attempt.number, worker=worker_name()
        )


def take_shard(job: str, shard: str) -> Held | Outcome:
    """Claim a shard; returns it, or why it was not given."""
    token = uuid.uuid4().hex
    presence = Presence(ledger().redis)
    # Announced before the claim: if the child dies right after it, its shard is known.
    busy = Busy(os.getpid(), job, shard, token, psutil.Process().create_time())
    presence.begin(worker_name(), busy)
    held = None
    try:
        claim = claim_shard(job, shard, token)
        if claim.answer is not Outcome.LEASED:
            log.info("%s/%s: %s", job, shard, claim.answer.lower())
            if claim.answer in (Outcome.DECLINED, Outcome.DOUBTED):
                leaving.wait(REFUSED_PAUSE_S)
            return claim.answer
        try:
            spec = ledger().spec(job)
        except JobError as error:
            # The job was forgotten just now, or its spec is of another version than this worker.
            return _declined(job, shard, token, str(error))
        definition = dict(claim.shard or {})
        held = Held(
            Attempt(job, spec, shard, token, claim.attempt, definition, worker_name()), busy
        )
        held.do(lambda: log.info("%s/%s: attempt %d", job, shard, claim.attempt))
        return held
    finally:
        if held is None:
            presence.end(worker_name(), busy)


def _take_back(attempt: Attempt, patience_s: float) -> None:
    """Remove what an attempt wrote in vain: if its job has ended, nobody else removes it."""
    if not isinstance(attempt.spec, LabelSpec):
        return
    with suppress(OSError, MtlError):  # the place may be what failed
        output = place_inside(attempt.spec.output, settings(), patience_s)
        output.delete(attempt.part, f"{ERRORS}/{attempt.errors}")


def _stop(attempt: Attempt, stop: StopWork) -> Outcome:
    """Give back the shard of an attempt that was told to stop, if its lease is still held."""
    if stop.answer is Outcome.STALE:
        metrics.LEASES_LOST.inc()
    else:
        _released(attempt, f"the worker stopped: {stop.answer.lower()}")
    return stop.answer


def _end(attempt: Attempt, error: Exception) -> Outcome:
    """Tell the ledger what becomes of an attempt that failed with an error; return the outcome."""
    job, shard, reason = attempt.job, attempt.shard, one_line(error)
    with suppress(redis.RedisError):
        holder = ledger().holder(job, shard)
        if holder is None or holder["token"] != attempt.token:
            log.info("%s/%s: no longer this worker's; %s", job, shard, reason)
            return Outcome.STALE
    if (
        isinstance(error, OutputError)
        and isinstance(attempt.spec, LabelSpec)
        and end_if_whole(ledger(), job, attempt.spec)
    ):
        log.warning("%s: %s", job, REASON)
        return _released(attempt, REASON)
    metrics.ERRORS.labels(type(error).__name__).inc()
    fault = blame(error, attempt.spec)
    if fault is Blame.ROWS:
        log.exception("%s/%s: the attempt failed", job, shard)
    else:
        log.error("%s/%s: %s", job, shard, reason)
    return ENDINGS[fault](attempt, error)


def _failed(attempt: Attempt, error: Exception) -> Outcome:
    return ledger().fail(attempt.job, attempt.shard, attempt.token, one_line(error))


def _declined(job: str, shard: str, token: str, reason: str) -> Outcome:
    answer = ledger().decline(job, shard, token, reason)
    return Outcome.DECLINED if answer is Outcome.OK else Outcome.STALE


def _released(attempt: Attempt, reason: str) -> Outcome:
    ledger().release(attempt.job, attempt.shard, attempt.token, reason)
    return Outcome.RELEASED


def _paused(attempt: Attempt, error: Exception) -> Outcome:
    _released(attempt, one_line(error))
    assert isinstance(error, OSError)
    pause(ledger(), attempt.job, attempt.spec, error)
    return Outcome.PAUSED


def _given_up(attempt: Attempt, error: Exception) -> Outcome:
    _released(attempt, one_line(error))
    ledger().transition(attempt.job, JobState.FAILED, one_line(error))
    return Outcome.FAILED


ENDINGS: Mapping[Blame, Callable[[Attempt, Exception], Outcome]] = {
    Blame.ROWS: _failed,
    Blame.WORKER: lambda a, error: _declined(a.job, a.shard, a.token, one_line(error)),
    Blame.OUTPUT: _paused,
    Blame.SPEC: _given_up,
    Blame.LEDGER: lambda a, error: _released(a, one_line(error)),
}
"""By whose fault an error is: the function that ends the attempt."""


def pause(ledger: Ledger, job: str, spec: AnySpec, error: OSError) -> None:
    """Pause a job until the place that it writes to is mended."""
    where = getattr(error, "filename", None) or spec.output
    reason = f"{error.strerror or error}: {where}; mend that, then `mtl retry {job}`"
    if ledger.transition(job, JobState.PAUSED, reason):
        log.error("%s paused: %s", job, reason)


def one_line(error: Exception) -> str:
    """An error's first line, with its type before it unless it is an :class:`MtlError`."""
    text = (str(error).strip().splitlines() or [""])[0]
    return text if isinstance(error, MtlError) else f"{type(error).__name__}: {text}"
