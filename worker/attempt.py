"""One attempt at a shard, from its claim to its end in the ledger."""

import logging
import os
import sys
import uuid
from contextlib import suppress
from importlib import import_module
from typing import Any

import psutil
import redis

from jobs.ledger.ledger import Ledger
from jobs.ledger.lifecycle import JobState
from jobs.ledger.messages import queue_name
from jobs.ledger.presence import Busy, Presence, child_name
from jobs.ledger.snapshot import Claim
from jobs.output.layout import ERRORS, error_name, part_name
from jobs.roots import place_inside
from jobs.settings import settings
from jobs.specs import AnySpec, LabelSpec, TrainSpec
from mtl_core.errors import JobError, MtlError
from mtl_core.pulse import with_pulse
from worker.blame import Blame, blame
from worker.lease.heartbeat import Heartbeat, StopWork, leaving
from worker.process import metrics
from worker.process.logs import about
from worker.process.own import child_place, ledger, worker_name

log = logging.getLogger(__name__)

# A child that may not have a shard waits so long before it takes the next message, which is then
# left to others.
REFUSED_PAUSE_S = 1.0
# How long a child that failed at a shard leaves it to others.
DOUBT_S = 30.0
# As in jobs/ledger/lua/prelude.lua.
DOUBTED_FAILURES = 3


def attempt_shard(job: str, shard: str) -> str:
    """Claim a shard and work on it; returns the ledger's answer."""
    token = uuid.uuid4().hex
    presence = Presence(ledger().redis)
    # Before the claim: a child that dies right after it is seen to have held the shard.
    born_s = psutil.Process().create_time()
    presence.begin(worker_name(), Busy(os.getpid(), job, shard, token, born_s))
    try:
        claim = _claim(job, shard, token)
        if claim.answer != "LEASED":
            log.info("%s/%s: %s", job, shard, claim.answer.lower())
            if claim.answer in ("DECLINED", "DOUBTED"):
                leaving.wait(REFUSED_PAUSE_S)
            return claim.answer
        with about(job=job, shard=shard, attempt=claim.attempt, worker=worker_name()):
            answer = _run_claimed(job, shard, token, claim)
    finally:
        presence.end(worker_name(), os.getpid())
    metrics.ATTEMPTS.labels(answer.lower()).inc()
    return answer


def _claim(job: str, shard: str, token: str) -> Claim:
    asked = (job, shard, token, worker_name(), child_place())
    claim = ledger().claim(*asked)
    if claim.answer == "DOUBTED" and not others_may_do(ledger(), *asked[:2], *asked[3:]):
        claim = ledger().claim(*asked, insist=True)
    return claim


def others_may_do(ledger: Ledger, job: str, shard: str, worker: str, place: int) -> bool:
    """Whether a shard that a child failed at, or in doubt of it, should be left to others.

    So it is while somebody else is there that can do the job and did not fail at that shard; but
    not for long, since the others may be busy with something else.
    """
    try:
        snapshot = ledger.snapshot(job)
    except JobError:
        return True  # forgotten meanwhile: there is nothing to insist on
    me, failing, declined = child_name(worker, place), ledger.failing(job), ledger.declined(job)
    last_ms = failing[me]["last_ms"] if me in failing else 0
    if ledger.now_ms() - last_ms > DOUBT_S * 1000:
        return False
    serving = Presence(ledger.redis).serving(queue_name(snapshot.kind, snapshot.priority))
    failed_here = shard in failing.get(me, {}).get("shards", {})
    for name, children in serving.items():
        # A brother would hardly do better with a shard than this child, but perhaps in general.
        if name in declined or (failed_here and name == worker):
            continue
        for child in children:
            shards = failing.get(child, {}).get("shards", {})
            if child not in declined and shard not in shards and len(shards) < DOUBTED_FAILURES:
                return True
    return False


def _run_claimed(job: str, shard: str, token: str, claim: Claim) -> str:
    log.info("%s/%s: attempt %d", job, shard, claim.attempt)
    try:
        spec = ledger().spec(job)
    except JobError as error:
        answer = _unreadable(job, shard, token, error)
    else:
        answer = _attempt(job, spec, shard, token, claim)
    log.info("%s/%s: %s", job, shard, answer.lower())
    return answer


def _unreadable(job: str, shard: str, token: str, error: JobError) -> str:
    """The job was forgotten in this moment, or its spec is of another version than this worker."""
    return "DECLINED" if ledger().decline(job, shard, token, str(error)) == "OK" else "STALE"


def _attempt(job: str, spec: AnySpec, shard: str, token: str, claim: Claim) -> str:
    try:
        with Heartbeat(ledger(), job, shard, token) as heartbeat:
            result = _work(job, spec, shard, token, claim, heartbeat)
    except StopWork as stop:
        _take_back(spec, shard, token, claim.attempt, patience_s=0)
        if stop.answer == "STALE":
            metrics.LEASES_LOST.inc()
        else:
            ledger().release(job, shard, token, f"the worker stopped: {stop.answer.lower()}")
        return stop.answer
    except Exception as error:  # whatever it was, the shard must not be kept
        # Without patience: the lease runs, and the place may be what failed.
        _take_back(spec, shard, token, claim.attempt, patience_s=0)
        return _end(job, spec, shard, token, error)
    # What this raises leaves the part where it is: the word may have arrived, and its answer not.
    answer = ledger().complete(job, shard, token, result)
    if answer == "STALE":
        _take_back(spec, shard, token, claim.attempt, settings().store_patience_s)
    else:
        metrics.count_result(spec.kind, result)
    return answer


def _work(
    job: str, spec: AnySpec, shard: str, token: str, claim: Claim, heartbeat: Heartbeat
) -> dict[str, Any]:
    # Here and not above: these load torch, which only the children may do.
    own = "worker.label" if isinstance(spec, LabelSpec) else "worker.train"
    if own not in sys.modules:
        with_pulse(heartbeat.pulse, import_module, own)
    if isinstance(spec, LabelSpec):
        from worker.label import label_shard

        return label_shard(
            *(job, spec, shard, claim.attempt, token, dict(claim.shard or {}), worker_name()),
            heartbeat.progress,
            heartbeat.confirm,
            heartbeat.pulse,
        )
    assert isinstance(spec, TrainSpec)
    from worker.train import train_model

    return train_model(ledger(), job, spec, worker_name(), claim.attempt, heartbeat)


def _take_back(spec: AnySpec, shard: str, token: str, attempt: int, patience_s: float) -> None:
    """Remove what an attempt wrote in vain: its job may have ended, and nobody else would."""
    if not isinstance(spec, LabelSpec):
        return
    with suppress(OSError, MtlError):  # the place may be why it does not count
        names = (part_name(shard, attempt, token), error_name(shard, attempt, token))
        output = place_inside(spec.output, settings(), patience_s)
        output.delete(names[0], f"{ERRORS}/{names[1]}")


def _end(job: str, spec: AnySpec, shard: str, token: str, error: Exception) -> str:
    """End an attempt that an error ended, as the error demands; returns what came of it."""
    with suppress(redis.RedisError):
        holder = ledger().holder(job, shard)
        if holder is None or holder["token"] != token:
            log.info("%s/%s: no longer this worker's; %s", job, shard, one_line(error))
            return "STALE"
    metrics.ERRORS.labels(type(error).__name__).inc()
    fault = blame(error, spec)
    reason = one_line(error)
    if fault is Blame.ROWS:
        log.exception("%s/%s: the attempt failed", job, shard)
        return ledger().fail(job, shard, token, reason)
    log.error("%s/%s: %s", job, shard, reason)
    if fault is Blame.WORKER:
        return "DECLINED" if ledger().decline(job, shard, token, reason) == "OK" else "STALE"
    ledger().release(job, shard, token, reason)
    if fault is Blame.OUTPUT:
        assert isinstance(error, OSError)
        pause(ledger(), job, spec, error)
        return "PAUSED"
    if fault is Blame.SPEC:
        ledger().transition(job, JobState.FAILED, reason)
        return "FAILED"
    return "RELEASED"


def pause(ledger: Ledger, job: str, spec: AnySpec, error: OSError) -> None:
    """Let a job wait until the place it writes to is mended."""
    where = getattr(error, "filename", None) or spec.output
    reason = f"{error.strerror or error}: {where}; mend that, then `mtl retry {job}`"
    if ledger.transition(job, JobState.PAUSED, reason):
        log.error("%s paused: %s", job, reason)


def one_line(error: Exception) -> str:
    """An error's first line, with its kind where it is none of this software's own."""
    text = (str(error).strip().splitlines() or [""])[0]
    return text if isinstance(error, MtlError) else f"{type(error).__name__}: {text}"
