"""A job whose output is whole, though the ledger takes it for unfinished.

So it is when Redis has lost its last writes (it failed over, or its disk was behind) just after the
job was finalised: the ledger then hands out shards whose staged rows have been removed since.
"""

from jobs.label.join import is_joined
from jobs.ledger.ledger import Ledger
from jobs.ledger.lifecycle import JobState
from jobs.output.layout import finished, generations_in, read_manifest
from jobs.roots import place_inside
from jobs.specs import LabelSpec
from mtl_core.errors import MtlError

REASON = "its output was whole before Redis lost its last writes; `mtl verify` counts it"


def end_if_whole(ledger: Ledger, job: str, spec: LabelSpec) -> bool:
    """End a running job if its output is whole already; returns whether it is."""
    try:
        end = _state_on_disk(ledger, job, spec)
    except (OSError, MtlError):  # the output cannot be seen from here: then this is not known
        return False
    if end is None:
        return False
    ledger.transition(job, JobState.FINALISING)
    ledger.transition(job, end, REASON)
    return True


def _state_on_disk(ledger: Ledger, job: str, spec: LabelSpec) -> JobState | None:
    """How the job ended, by what it has written; None if that is not whole."""
    output = place_inside(spec.output, ledger.settings, patience_s=0)
    if spec.appends:
        out = place_inside(spec.target, ledger.settings, patience_s=0)
        if is_joined(out, output, job):
            return next(JobState(each.state) for each in generations_in(out) if each.job == job)
        return None
    # A retry takes the mark of a whole output away first.
    return JobState(read_manifest(output).state) if finished(output, job) else None
