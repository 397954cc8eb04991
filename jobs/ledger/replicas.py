"""Replicas of Redis: what they have of it, and what was lost when one took its place.

Redis replicates asynchronously. A primary that dies may have answered "done" to the writes of its
last moments without a replica having got them. The replica that takes its place then stands where
the primary stood a moment before, since it applies the same writes in the same order. Nobody needs
to find out which writes those were: the ledger at that moment was whole, and all that was done
since is done again from there. But it must be *seen*, and that is done here.
"""

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import redis

TAKEOVERS = "mtl:takeovers"
"""Hash: run id of the Redis that took over -> when it was seen, and what was lost."""
KEPT_S = 7 * 24 * 3600
SEAL = "mtl:seal"
REPLICA_PATIENCE_S = 5.0


def replicated(client: redis.Redis, patience_s: float = REPLICA_PATIENCE_S) -> bool:
    """Whether a replica has got all that this Redis has done so far; waits for it.

    Also true where no replica follows: then there is nobody to wait for.
    """
    if not int(_info(client).get("connected_slaves", 0)):
        return True
    # WAIT asks about the writes of its own connection; replicas get those of all in one order.
    pipe = client.pipeline(transaction=False)
    pipe.set(SEAL, 1, ex=60)
    pipe.wait(1, int(patience_s * 1000))
    return int(pipe.execute()[-1]) > 0


@dataclass(frozen=True)
class Standing:
    """Which Redis answers, and how far its stream of writes has come."""

    run_id: str
    """Of the process; another one after each start."""
    uptime_s: float
    stream: str
    """Id of the stream of writes."""
    offset: int
    """Bytes of it so far."""
    stream_before: str = ""
    """The stream that it followed as a replica, before it became the primary."""
    offset_before: int = -1
    """How many bytes of that one it had got."""


def standing(client: redis.Redis) -> Standing:
    """Ask Redis."""
    told = _info(client)
    return Standing(
        run_id=str(told["run_id"]),
        uptime_s=float(told["uptime_in_seconds"]),
        stream=str(told.get("master_replid", "")),
        offset=int(told.get("master_repl_offset", 0)),
        stream_before=str(told.get("master_replid2", "")),
        # Redis counts the first byte that is not of the stream before.
        offset_before=int(told.get("second_repl_offset", 0)) - 1,
    )


def _info(client: redis.Redis) -> Mapping[str, Any]:
    return cast(Mapping[str, Any], client.info())


@dataclass(frozen=True)
class Takeover:
    """That another Redis answers than before."""

    at_s: float
    lost: int | None
    """Bytes of writes that it had not got, of those that whoever noticed had seen at its last look;
    None: it is not known, as after a restart."""
    restarted: bool
    """Whether it was started anew, and did not follow the one before as its replica."""

    def __str__(self) -> str:
        if self.restarted:
            return (
                "Redis was started again: what it had not put on its disk is done again from where "
                "it stands"
            )
        if not self.lost:
            return (
                "Redis has failed over to a replica: writes of the last moment may not have "
                "reached it; what is missing is done again"
            )
        return (
            f"Redis has failed over to a replica that lacks the last writes ({self.lost:,} bytes "
            "at least): what they told is done again"
        )


def takeover(before: Standing, now: Standing, at_s: float) -> Takeover | None:
    """What happened between two looks at Redis; None if the same one answers."""
    if before.run_id == now.run_id:
        return None
    if before.stream and before.stream == now.stream_before:
        return Takeover(at_s, max(0, before.offset - now.offset_before), restarted=False)
    # A Redis that was never a replica keeps zeros there.
    return Takeover(at_s, None, restarted=now.stream_before.strip("0") == "")


class Continuity:
    """Looks at Redis again and again, and notes when another one answers."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self._last: Standing | None = None

    def look(self) -> tuple[Standing, Takeover | None]:
        """Look at Redis; returns how it stands, and what happened if another one answers now."""
        before, self._last = self._last, standing(self._client)
        found = takeover(before, self._last, time.time()) if before else None
        if found is not None:
            self._note(self._last.run_id, found)
        return self._last, found

    def _note(self, run_id: str, found: Takeover) -> None:
        """Note it for `mtl status`; who saw more of it lost has the last word."""
        known = takeovers(self._client).get(run_id)
        if known is None or (known.lost or 0) < (found.lost or 0):
            self._client.hset(TAKEOVERS, run_id, json.dumps(found.__dict__))
            self._client.expire(TAKEOVERS, KEPT_S)


def takeovers(client: redis.Redis) -> dict[str, Takeover]:
    """What was noted in the last days, by the run id of the Redis that took over, oldest first."""
    found = cast(dict[str, str], client.hgetall(TAKEOVERS))
    noted = {run_id: Takeover(**json.loads(text)) for run_id, text in found.items()}
    return dict(sorted(noted.items(), key=lambda pair: pair[1].at_s))
