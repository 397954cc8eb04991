"""Cancelling a job: its workers stop after the batch under way; what is done stays."""

import time

from jobs.ledger.ledger import Ledger
from jobs.ledger.lifecycle import JobState
from jobs.ledger.snapshot import Snapshot
from mtl_core.errors import JobError

POLL_S = 0.1
REASON = "cancelled by its user"


def cancel_job(ledger: Ledger, job: str) -> Snapshot:
    """Ask a job to stop, and wait for its workers to leave it, for one lease at most.

    Raises:
        JobError: the job has ended already, or is being finalised.
    """
    ask(ledger, job)
    return wait(ledger, job)


def ask(ledger: Ledger, job: str) -> None:
    """Ask a job to stop, without waiting for its workers.

    If nobody calls :func:`wait` afterwards, the reconciler ends the cancelling.

    Raises:
        JobError: the job has ended already, or is being finalised.
    """
    if not ledger.transition(job, JobState.CANCELLING, REASON):
        state = ledger.state(job)
        if state is JobState.FINALISING:
            raise JobError(f"{job} is {state}: all its rows are done; wait for its end")
        if state not in (JobState.CANCELLING, JobState.CANCELLED):
            raise JobError(f"{job} has ended already ({state})")


def wait(ledger: Ledger, job: str) -> Snapshot:
    """Wait for the workers of a job to leave it, for one lease at most; then it is cancelled."""
    deadline = time.monotonic() + ledger.settings.lease_s
    while ledger.snapshot(job).workers and time.monotonic() < deadline:
        time.sleep(POLL_S)
    ledger.transition(job, JobState.CANCELLED, REASON)
    return ledger.snapshot(job)
