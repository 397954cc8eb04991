"""Who is there: workers that live, what their children are busy with, and who holds a lock.

All of it in Redis beside the ledger, but none of it decides what becomes of a shard.
"""

import json
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import cast

import redis

from mtl_core import __version__

WORKER = "mtl:worker:"
BUSY = "mtl:busy:"
BUSY_KEPT_S = 7 * 24 * 3600


@dataclass(frozen=True)
class Busy:
    """What a worker's child says it is working on."""

    pid: int
    job: str
    shard: str
    token: str


class Presence:
    """Reads and writes presence on one Redis client."""

    def __init__(self, client: redis.Redis) -> None:
        self.redis = client

    def announce(self, worker: str, seconds: float) -> None:
        """Say that a worker of this version lives, for the next ``seconds``."""
        self.redis.set(WORKER + worker, __version__, ex=max(1, round(seconds)))

    def leave(self, worker: str) -> None:
        """Say that a worker has gone."""
        self.redis.delete(WORKER + worker, BUSY + worker)

    def workers(self) -> list[str]:
        """Workers that lately said they live."""
        return sorted(name.removeprefix(WORKER) for name in self.redis.scan_iter(WORKER + "*"))

    def versions(self) -> dict[str, str]:
        """The version of each of these workers."""
        names = self.workers()
        if not names:
            return {}
        found = cast(list[str | None], self.redis.mget([WORKER + name for name in names]))
        return {name: own for name, own in zip(names, found, strict=True) if own is not None}

    def begin(self, worker: str, busy: Busy) -> None:
        """Say what a child begins to work on."""
        self.redis.hset(
            BUSY + worker, str(busy.pid), json.dumps([busy.job, busy.shard, busy.token])
        )
        self.redis.expire(BUSY + worker, BUSY_KEPT_S)

    def end(self, worker: str, pid: int) -> None:
        """Say that a child works on nothing."""
        self.redis.hdel(BUSY + worker, str(pid))

    def busy(self, worker: str) -> list[Busy]:
        """What a worker's children say they work on."""
        found = cast(dict[str, str], self.redis.hgetall(BUSY + worker))
        return [Busy(int(pid), *json.loads(text)) for pid, text in found.items()]


# Looked at and acted on in one step: between two, the lock may end and another take it.
KEEP = (
    "return redis.call('GET', KEYS[1]) == ARGV[1] and redis.call('PEXPIRE', KEYS[1], ARGV[2]) or 0"
)
RELEASE = "return redis.call('GET', KEYS[1]) == ARGV[1] and redis.call('DEL', KEYS[1]) or 0"


class Lock:
    """A lock that ends by itself when its holder dies."""

    def __init__(self, client: redis.Redis, name: str) -> None:
        self.redis, self.name, self.token = client, name, uuid.uuid4().hex
        self._keep, self._release = client.register_script(KEEP), client.register_script(RELEASE)

    def hold(self, seconds: float) -> bool:
        """Take or keep the lock for ``seconds``; False while another holds it."""
        taken = self.redis.set(self.name, self.token, nx=True, px=int(seconds * 1000))
        return bool(taken or self._keep(keys=[self.name], args=[self.token, int(seconds * 1000)]))

    @contextmanager
    def held(self, seconds: float) -> Iterator[bool]:
        """Hold the lock for as long as the block runs; gives whether it could be had."""
        if not self.hold(seconds):
            yield False
            return
        over = threading.Event()

        def renew() -> None:
            while not over.wait(seconds / 3):
                with suppress(redis.RedisError):
                    self.hold(seconds)

        thread = threading.Thread(target=renew, name=f"lock {self.name}", daemon=True)
        thread.start()
        try:
            yield True
        finally:
            over.set()
            thread.join()
            self.release()

    def release(self) -> None:
        """Give the lock back if it is still held."""
        self._release(keys=[self.name], args=[self.token])
