"""Submitting a checked label job: its folder is taken, and it is put into the ledger and planned.

To submit the same again is to join the same job.
"""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from redis.exceptions import LockError, RedisError

from jobs.label.join import clear_joined
from jobs.label.plan import plan
from jobs.label.request import LabelJob
from jobs.ledger.ledger import JobClosed, Ledger
from jobs.ledger.lifecycle import PLANNABLE, RESTING, JobState
from jobs.ledger.messages import Publisher
from jobs.ledger.presence import Lock, planner_lock
from jobs.output.layout import (
    SHARDS,
    WORK,
    generations_in,
    owner,
    release_folder,
    reopen_folder,
    staged_name,
    take_folder,
)
from mtl_core.errors import (
    InputError,
    JobError,
    LedgerUnreachableError,
    MtlError,
    OutputError,
    StoreError,
)
from mtl_core.storage.place import Place

PLAN_TRIES = 3


def open_label(ledger: Ledger, job: LabelJob, priority: str) -> bool:
    """Take the output folder and put the job into the ledger, not yet planned.

    A job that is in the ledger already is joined. One that came to rest without its output being
    whole (failed, cancelled, paused) is opened again; one whose output or staged input has been
    deleted begins anew.

    Returns:
        whether the job is new.
    Raises:
        OutputError: the output folder cannot be used.
    """
    with _taking(ledger, job.output):
        emptied = _take(job)
        new = ledger.create(job.id, job.spec, priority)
        if not new:
            _open_again(ledger, job, emptied=emptied)
    return new


def _take(job: LabelJob) -> bool:
    """Take a job's folder; returns whether there is nothing in it from which it could go on.

    Raises:
        OutputError: another job has it, or something was appended to the output since.
    """
    spec = job.spec.model_dump(mode="json")
    if not job.spec.appends:
        if not job.finished and len(generations_in(job.output)) > 1:
            raise OutputError(
                f"{job.output} is not whole, but rows were appended to it: put back its _SUCCESS, "
                "or label again into a new folder"
            )
        return take_folder(job.output, job.id, spec)
    clear_joined(job.target, job.output)
    holder = owner(job.output)
    if holder not in (None, job.id):
        raise OutputError(
            f"{job.target} is being appended to by {holder} (`mtl status {holder}`); wait for its "
            f"end, or let it go on by `mtl retry {holder}`; to give it up, delete {job.output}"
        )
    emptied = take_folder(job.output, job.id, spec)
    # From here on nobody else can append; what was appended before is seen now.
    there = generations_in(job.target)
    last = there[-1].number if there else 0
    if last != job.spec.generation - 1 and job.id not in (each.job for each in there):
        release_folder(job.output, job.id)
        raise OutputError(f"{job.target} was appended to just now; repeat the command")
    return emptied


def _require_retryable(job: LabelJob) -> None:
    """Raise OutputError if rows were appended since, so that a partial job's rows stay errors."""
    there = generations_in(job.target)
    if job.spec.appends:
        over = any(each.job == job.id for each in there) and owner(job.output) != job.id
    else:
        over = len(there) > 1
    if over:
        raise OutputError(
            f"{job.target} was appended to since {job.id} ended; its rows that failed stay in "
            "errors"
        )


@contextmanager
def _taking(ledger: Ledger, output: Place) -> Iterator[None]:
    """Let one submit at a time take a folder.

    What lies in the folder decides whose it is. The lock is for object stores that know no
    conditional put: in those, two jobs could take a folder at the same moment.

    Raises:
        OutputError: another command is taking the folder.
    """
    digest = hashlib.sha256(str(output).encode()).hexdigest()[:16]
    lease_s = ledger.settings.lease_s
    lock = ledger.redis.lock(f"mtl:taking:{digest}", timeout=lease_s, blocking_timeout=4 * lease_s)
    if not lock.acquire():
        raise OutputError(f"{output} is being taken by another command; repeat this one")
    try:
        yield
    finally:
        with suppress(LockError):  # the lock ran out; the folder decides all the same
            lock.release()


def plan_label(
    ledger: Ledger, publisher: Publisher, job: LabelJob, planned: Callable[[], None]
) -> bool:
    """Plan an opened job, unless another process is planning it or has planned it.

    Call it again while the job is still queued or planning: the other process may have died.

    Args:
        planned: called while planning goes on, for showing progress.
    Returns:
        whether this call planned it.
    Raises:
        InputError: the input holds no rows, or is damaged.
    """
    if ledger.state(job.id) not in PLANNABLE:
        return False
    with Lock(ledger.redis, planner_lock(job.id)).held(ledger.settings.lease_s) as alone:
        if not alone or ledger.state(job.id) not in PLANNABLE:
            return False
        ledger.transition(job.id, JobState.PLANNING)
        try:
            with _planning(ledger, job):
                _plan_whole(ledger, publisher, job, planned)
        except JobClosed:
            return False  # it was cancelled or paused meanwhile, as its state tells
        ledger.transition(job.id, JobState.RUNNING)
    if ledger.snapshot(job.id).settled:
        publisher.finalise("label", job.id)  # no shard is left whose end would have it finalised
    return True


def _plan_whole(
    ledger: Ledger, publisher: Publisher, job: LabelJob, planned: Callable[[], None]
) -> None:
    """Plan until the ledger has every shard: a Redis that took over meanwhile may lack some.

    Raises:
        JobError: the ledger lacks some again and again.
    """
    for _ in range(PLAN_TRIES):
        if plan(ledger, publisher, job, planned):
            return
    raise JobError(
        f"Redis lost shards of {job.id} while it was planned, {PLAN_TRIES} times; repeat the "
        "command when Redis is well"
    )


@contextmanager
def _planning(ledger: Ledger, job: LabelJob) -> Iterator[None]:
    """Bring the job to rest, with the reason, when an error ends its planning early."""
    try:
        yield
    except InputError as error:
        ledger.transition(job.id, JobState.FAILED, str(error))
        release_folder(job.output, job.id)
        raise
    except OSError as error:
        reason = f"planning could not write {job.output} ({error.strerror or error})"
        ledger.transition(job.id, JobState.PAUSED, reason)
        if isinstance(error, StoreError):
            raise
        raise OutputError(f"{reason}; mend that and repeat the command") from error
    except (KeyboardInterrupt, SystemExit):
        ledger.transition(job.id, JobState.PAUSED, "stopped while it was planned")
        raise
    except (JobClosed, RedisError, LedgerUnreachableError):
        # A closed job needs no note, and without Redis none can be made. Whoever watches the job
        # plans it again.
        raise
    except Exception as error:
        what = "" if isinstance(error, MtlError) else f"{type(error).__name__}: "
        reason = f"planning failed: {what}{error}"
        ledger.transition(job.id, JobState.FAILED, reason)
        release_folder(job.output, job.id)
        raise


def open_again(ledger: Ledger, job: LabelJob) -> None:
    """Let a resting job go on; it begins anew if its output has gone."""
    with _taking(ledger, job.output):
        _require_retryable(job)
        emptied = _take(job)
        reopen_folder(job.output)
        _open_again(ledger, job, emptied=emptied)


def _open_again(ledger: Ledger, job: LabelJob, *, emptied: bool) -> None:
    state = ledger.state(job.id)
    if job.finished or state is JobState.CANCELLING:
        return
    if emptied or state is JobState.DONE or not _is_there(ledger, job):
        priority = ledger.snapshot(job.id).priority
        ledger.delete(job.id)
        ledger.create(job.id, job.spec, priority)
    elif state in RESTING:
        ledger.reopen(job.id)


def _is_there(ledger: Ledger, job: LabelJob) -> bool:
    """Whether the parts of all shards that are done, and the staged rows of all others, exist."""
    done = ledger.results(job.id)
    parts = set(job.output.matching("part-*.parquet"))
    staged = set(job.output.names(f"{WORK}/{SHARDS}"))
    waiting = {name: s for name, s in ledger.shards(job.id).items() if name not in done}
    return all(result["part"] in parts for result in done.values()) and all(
        staged_name(shard["file"]) in staged for shard in waiting.values()
    )
