"""Claiming a shard: a child that failed at it, or at others, leaves it to other children first."""

from jobs.ledger.ledger import Ledger
from jobs.ledger.messages import queue_name
from jobs.ledger.outcome import Outcome
from jobs.ledger.presence import Presence, child_name
from jobs.ledger.snapshot import Claim
from mtl_core.errors import JobError
from worker.process.own import child_place, ledger, worker_name

# How long a child that failed at a shard leaves it to others.
DOUBT_S = 30.0
# A child that failed at so many shards in a row is doubted; as in jobs/ledger/lua/prelude.lua.
DOUBTED_FAILURES = 3


def claim_shard(job: str, shard: str, token: str) -> Claim:
    """Ask for a shard's lease in this child's name."""
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
