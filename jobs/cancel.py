"""Cancelling a job: its workers stop after the batch under way; what is done stays."""

import time

from jobs.ledger import Ledger
from jobs.lifecycle import JobState
from jobs.snapshot import Snapshot

POLL_S = 0.1
REASON = "cancelled by its user"


def cancel_job(ledger: Ledger, job: str) -> Snapshot:
    """Ask a job to stop and wait until its workers have, for one lease at most.

    If this process dies meanwhile, the reconciler ends the cancelling.
    """
    ledger.transition(job, JobState.CANCELLING, REASON)
    deadline = time.monotonic() + ledger.settings.lease_s
    while ledger.snapshot(job).workers and time.monotonic() < deadline:
        time.sleep(POLL_S)
    ledger.transition(job, JobState.CANCELLED, REASON)
    return ledger.snapshot(job)
