"""One attempt at a shard, from its claim to its end in the ledger."""

import logging
import os
import sys
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from importlib import import_module
from typing import Any

import psutil
import redis

from jobs.label.ended import REASON, end_if_whole
from jobs.ledger.ledger import Ledger
from jobs.ledger.lifecycle import JobState
from jobs.ledger.messages import queue_name
from jobs.ledger.outcome import Outcome
from jobs.ledger.presence import Busy, Presence, child_name
from jobs.ledger.snapshot import Claim
from jobs.output.layout import ERRORS
from jobs.roots import place_inside
from jobs.settings import settings
from jobs.specs import AnySpec, LabelSpec
from mtl_core.errors import JobError, MtlError, OutputError
from mtl_core.pulse import with_pulse
from worker.blame import Blame, blame
from worker.lease.attempt import Attempt
from worker.lease.heartbeat import Heartbeat, StopWork, leaving
from worker.process import metrics
from worker.process.logs import about
from worker.process.own import child_place, ledger, worker_name

log = logging.getLogger(__name__)

# How long a child that was refused a shard waits before it takes the next message: meanwhile others
# can take it.
REFUSED_PAUSE_S = 1.0
# How long a child that failed at a shard leaves it to others.
DOUBT_S = 30.0
# A child that failed at so many shards in a row is doubted; as in jobs/ledger/lua/prelude.lua.
DOUBTED_FAILURES = 3


def attempt_shard(job: str, shard: str) -> Outcome:
    """Claim a shard and work on it; returns what came of it."""
    token = uuid.uuid4().hex
    presence = Presence(ledger().redis)
    # Announced before the claim: if the child dies right after it, its shard is known.
    born_s = psutil.Process().create_time()
    presence.begin(worker_name(), Busy(os.getpid(), job, shard, token, born_s))
    try:
        claim = _claim(job, shard, token)
        if claim.answer is not Outcome.LEASED:
            log.info("%s/%s: %s", job, shard, claim.answer.lower())
            if claim.answer in (Outcome.DECLINED, Outcome.DOUBTED):
                leaving.wait(REFUSED_PAUSE_S)
            return claim.answer
        with about(job=job, shard=shard, attempt=claim.attempt, worker=worker_name()):
            outcome = _run_claimed(job, shard, token, claim)
    finally:
        presence.end(worker_name(), os.getpid())
    metrics.ATTEMPTS.labels(outcome.lower()).inc()
    return outcome


def _claim(job: str, shard: str, token: str) -> Claim:
    asked = (job, shard, token, worker_name(), child_place())
    claim = ledger().claim(*asked)
    doubted = claim.answer is Outcome.DOUBTED
    if doubted and not others_may_do(ledger(), *asked[:2], *asked[3:]):
        claim = ledger().claim(*asked, insist=True)
    return claim


def others_may_do(ledger: Ledger, job: str, shard: str, worker: str, place: int) -> bool:
    """Whether a child whose claim was doubted should leave a shard to others.

    A claim is doubted if the child failed at this shard before, or at several shards of the job.
    The shard is left to others while another child is there that can do the job and did not fail at
    this shard. That ends :data:`DOUBT_S` seconds after the child's last failure, since the others
    may be busy with something else.
    """
    try:
        snapshot = ledger.snapshot(job)
    except JobError:
        return True  # the job was forgotten: there is nothing to insist on
    me, failing, declined = child_name(worker, place), ledger.failing(job), ledger.declined(job)
    last_ms = failing[me]["last_ms"] if me in failing else 0
    if ledger.now_ms() - last_ms > DOUBT_S * 1000:
        return False
    serving = Presence(ledger.redis).serving(queue_name(snapshot.kind, snapshot.priority))
    failed_here = shard in failing.get(me, {}).get("shards", {})
    for name, children in serving.items():
        # Another child of this worker would hardly do better at a shard that this child failed at.
        # It may do better if this child failed only at other shards.
        if name in declined or (failed_here and name == worker):
            continue
        for child in children:
            shards = failing.get(child, {}).get("shards", {})
            if child not in declined and shard not in shards and len(shards) < DOUBTED_FAILURES:
                return True
    return False


def _run_claimed(job: str, shard: str, token: str, claim: Claim) -> Outcome:
    log.info("%s/%s: attempt %d", job, shard, claim.attempt)
    try:
        spec = ledger().spec(job)
    except JobError as error:
        # The job was forgotten just now, or its spec is of another version than this worker.
        outcome = _declined(job, shard, token, str(error))
    else:
        definition = dict(claim.shard or {})
        outcome = _run(Attempt(job, spec, shard, token, claim.attempt, definition, worker_name()))
    log.info("%s/%s: %s", job, shard, outcome.lower())
    return outcome


def _run(attempt: Attempt) -> Outcome:
    try:
        with Heartbeat(ledger(), attempt.job, attempt.shard, attempt.token) as heartbeat:
            result = _work(attempt, heartbeat)
    except Exception as error:  # whatever the error, the shard must not be kept
        # Without patience: the lease is running out, and the output's place may be what failed.
        _take_back(attempt, patience_s=0)
        return _stop(attempt, error) if isinstance(error, StopWork) else _end(attempt, error)
    # If this raises, the part stays where it is: Redis may have completed the shard although its
    # answer did not arrive.
    outcome = ledger().complete(attempt.job, attempt.shard, attempt.token, result)
    if outcome is Outcome.STALE:
        _take_back(attempt, settings().store_patience_s)
    else:
        metrics.count_result(attempt.spec.kind, result)
    return outcome


def _work(attempt: Attempt, heartbeat: Heartbeat) -> dict[str, Any]:
    # Imported here and not above: these modules load torch, which only children may do.
    own = "worker.label" if isinstance(attempt.spec, LabelSpec) else "worker.train"
    if own not in sys.modules:
        with_pulse(heartbeat.pulse, import_module, own)
    if isinstance(attempt.spec, LabelSpec):
        from worker.label import label_shard

        return label_shard(attempt, heartbeat)
    from worker.train import train_model

    return train_model(ledger(), attempt, heartbeat)


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
