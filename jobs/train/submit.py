"""Submitting a train job. The same spec submitted again is the same job."""

from contextlib import suppress
from typing import Literal

from jobs.ledger.ledger import JobClosed, Ledger
from jobs.ledger.lifecycle import PLANNABLE, JobState
from jobs.ledger.messages import Publisher
from jobs.specs import TrainSpec, job_id
from jobs.train.made_by import refuse_other
from mtl_core.errors import JobError
from mtl_core.storage.address import place_of

TRAIN_SHARD = "run"


def submit_train(
    ledger: Ledger, publisher: Publisher, spec: TrainSpec, priority: str
) -> tuple[str, bool]:
    """Queue a train job.

    A job that came to rest without a model is opened again; one whose model was deleted begins
    anew.

    Returns:
        the job's id, and whether the job is new.
    Raises:
        JobError: a model of that name is there, made by another job; or the job is being cancelled.
    """
    job = job_id(spec)
    new = ledger.create(job, spec, priority)
    state = ledger.state(job)
    again, there = AGAIN[state], not place_of(spec.output).is_empty()
    if again == "join":
        return job, False
    if again == "refuse":
        raise JobError(f"{job} is {state}; repeat the command when that is over")
    try:
        refuse_other(spec, job, known=state is JobState.DONE)
    except JobError:
        if new or again == "begin":
            ledger.delete(job)
        raise
    if again == "anew" and there:
        return job, False
    if again == "anew":  # its model was deleted
        ledger.delete(job)
        new = ledger.create(job, spec, priority)
    elif again == "open":
        ledger.reopen(job)
    with suppress(JobClosed):  # it was cancelled just now
        ledger.add_shards(job, {TRAIN_SHARD: {"rows": 0}})
    if not ledger.close_plan(job, shards=1, rows=0) and ledger.state(job) in PLANNABLE:
        raise JobError(f"Redis has lost what it was told of {job}; repeat the command")
    ledger.transition(job, JobState.RUNNING)
    publisher.shards("train", priority, job, [TRAIN_SHARD])
    return job, new


Again = Literal["begin", "join", "open", "anew", "refuse"]
AGAIN: dict[JobState, Again] = {
    JobState.QUEUED: "begin",
    JobState.PLANNING: "begin",
    JobState.RUNNING: "join",
    JobState.FINALISING: "join",
    JobState.DONE: "anew",
    JobState.PARTIAL: "open",
    JobState.FAILED: "open",
    JobState.PAUSED: "open",
    JobState.CANCELLED: "open",
    JobState.CANCELLING: "refuse",
}
"""What becomes of a train job that is there already when it is submitted again, by its state."""
