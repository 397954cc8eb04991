"""The answers of the ledger, and how an attempt ended."""

from enum import StrEnum


class Outcome(StrEnum):
    """An answer of the ledger's scripts, in the words of the Lua code, or how an attempt ended.

    LEAVING, PAUSED, FAILED and RELEASED are said by workers only.
    """

    LEASED = "LEASED"
    """The attempt has got the shard's lease."""
    BUSY = "BUSY"
    """Another attempt holds the shard's lease."""
    DONE = "DONE"
    """The shard is completed already."""
    POISON = "POISON"
    """The shard has been set aside."""
    CLOSED = "CLOSED"
    """The job is neither planning nor running."""
    GONE = "GONE"
    """The job has no such shard."""
    DECLINED = "DECLINED"
    """This child, or its worker, has been noted as unable to do the job."""
    DOUBTED = "DOUBTED"
    """This child has failed at this shard, or at several others; another one should try."""

    OK = "OK"
    """The ledger has noted what it was told."""
    LAST = "LAST"
    """The ledger has noted it, and now all shards of the job are settled."""
    DUPLICATE = "DUPLICATE"
    """The ledger had noted the same before."""
    STALE = "STALE"
    """The attempt no longer holds the lease, and nothing was noted."""
    RETRY = "RETRY"
    """The attempt failed, and the shard waits for another attempt."""
    SPLIT = "SPLIT"
    """The attempt failed, and pieces of the shard take its place."""

    LEAVING = "LEAVING"
    """The worker was told to leave."""
    PAUSED = "PAUSED"
    """The job waits until the place it writes to is mended."""
    FAILED = "FAILED"
    """The job has failed, because no worker could do it."""
    RELEASED = "RELEASED"
    """The shard was given back, and the attempt does not count as failed."""
