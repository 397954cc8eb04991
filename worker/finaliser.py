"""Finalise a job in a worker, and decide what becomes of a job that cannot be finalised."""

import logging

import redis

from jobs.label.finalise import finalise
from jobs.ledger.ledger import Ledger
from jobs.ledger.lifecycle import JobState
from jobs.ledger.replicas import replicated
from mtl_core.errors import JobError, MtlError, OutputError
from worker.attempt import one_line, pause
from worker.blame import Blame, blame

log = logging.getLogger(__name__)


def finalise_or_pause(ledger: Ledger, job: str) -> None:
    """Write the manifest of a job whose shards are all settled, and end it.

    If that fails, the reconciler has it tried again, by this worker or another. If it keeps
    failing, the job is paused with the reason, or fails if its output cannot be used.
    """
    try:
        if not replicated(ledger.redis):
            # The output's staged rows are removed then: no shard may be lost that is done by them.
            log.warning("%s waits: no replica of Redis has confirmed its last shards yet", job)
            return
        if finalise(ledger, job):
            log.info("%s: %s", job, ledger.state(job))
    except redis.RedisError:
        raise  # the reconciler hints again
    except JobError as error:
        log.info("%s: %s", job, error)  # the job was forgotten just now
    except Exception as error:
        _not_finalised(ledger, job, error)


def _not_finalised(ledger: Ledger, job: str, error: Exception) -> None:
    reason = one_line(error)
    log.error("%s: not finalised: %s", job, reason, exc_info=not isinstance(error, MtlError))
    times = ledger.note_unfinalised(job, reason)
    if not times:
        return  # the job was forgotten or closed
    spec = ledger.spec(job)
    if isinstance(error, OSError) and blame(error, spec) is Blame.OUTPUT:
        pause(ledger, job, spec, error)
    elif times < ledger.settings.max_attempts:
        return  # it is tried again, perhaps by another worker
    elif isinstance(error, OutputError):
        ledger.transition(job, JobState.FAILED, reason)
    else:
        reason = f"it cannot be finalised: {reason}; mend that, then `mtl retry {job}`"
        ledger.transition(job, JobState.PAUSED, reason)
