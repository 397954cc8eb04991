"""Who is there: workers that live, what their children are busy with, and who holds a lock.

These records lie in Redis beside the ledger. None of them decides what becomes of a shard.
"""

import json
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import cast

import redis
from redis.exceptions import LockError

from mtl_core import __version__

WORKER = "mtl:worker:"
BUSY = "mtl:busy:"
UNFIT = "mtl:unfit:"
BUSY_KEPT_S = 7 * 24 * 3600
UNFIT_KEPT_S = 24 * 3600
RATES = "mtl:label-rates"
RATES_KEPT_S = 7 * 24 * 3600


def child_name(worker: str, place: int) -> str:
    """The name of a worker's child at a place, counted from 0.

    The child keeps its name when its process is replaced.
    """
    return f"{worker}#{place}"


def node_name(worker: str) -> str:
    """Celery's name for a worker that is called ``host:pid:word`` here."""
    host, _, rest = worker.partition(":")
    return f"mtl-{rest.replace(':', '-')}@{host}"


def host_of(worker: str) -> str:
    """The host in a worker's name."""
    return worker.partition(":")[0]


@dataclass(frozen=True)
class Busy:
    """What a worker's child says it is working on."""

    pid: int
    job: str
    shard: str
    token: str
    born_s: float = 0.0
    """When the child's process began, in seconds since the epoch; 0: not known. This tells it
    from a later process that was given the same number."""
    idle: bool = False
    """Whether the shard only waits in the child, behind another: it is then not to blame if the
    child dies."""

    @property
    def field(self) -> str:
        """Its field in the worker's hash: a child may have several shards."""
        return f"{self.pid}:{self.token[:8]}"


class Presence:
    """Reads and writes presence on one Redis client."""

    def __init__(self, client: redis.Redis) -> None:
        self.redis = client

    def announce(
        self, worker: str, seconds: float, queues: Iterable[str] = (), children: int = 1
    ) -> None:
        """Announce for the next ``seconds`` that a worker of this version lives.

        Args:
            queues: the queues that the worker serves; empty: all of them.
            children: how many children the worker has.
        """
        words = f"{__version__} {children} {','.join(queues)}"
        self.redis.set(WORKER + worker, words, ex=max(1, round(seconds)))

    def leave(self, worker: str) -> None:
        """Say that a worker has gone."""
        self.redis.delete(WORKER + worker, BUSY + worker)

    def workers(self) -> list[str]:
        """Workers whose announcement has not run out."""
        return sorted(name.removeprefix(WORKER) for name in self.redis.scan_iter(WORKER + "*"))

    def versions(self) -> dict[str, str]:
        """The version of each worker that is announced."""
        return {name: words[0] for name, words in self._words().items()}

    def serving(self, queue: str) -> dict[str, list[str]]:
        """Workers that serve a queue, with the names of their children."""
        found = {}
        for name, (_, *said) in self._words().items():  # earlier versions said their version only
            children = int(said[0]) if said else 1
            if len(said) < 2 or queue in said[1].split(","):
                found[name] = [child_name(name, place) for place in range(children)]
        return found

    def _words(self) -> dict[str, list[str]]:
        names = self.workers()
        if not names:
            return {}
        found = cast(list[str | None], self.redis.mget([WORKER + name for name in names]))
        return {name: own.split() for name, own in zip(names, found, strict=True) if own}

    def note_unfit(self, worker: str, child: str, reason: str) -> None:
        """Note for a day that a worker's child fails at shards that other children complete."""
        self.redis.hset(UNFIT + worker, child, reason)
        self.redis.expire(UNFIT + worker, UNFIT_KEPT_S)

    def unfit(self, worker: str) -> dict[str, str]:
        """Children of a worker that fail at shards that others complete, with the reasons."""
        return cast(dict[str, str], self.redis.hgetall(UNFIT + worker))

    def all_unfit(self) -> dict[str, str]:
        """The unfit children of all workers in the last day, with the reasons.

        Workers that have left for that reason are among them.
        """
        found: dict[str, str] = {}
        for name in sorted(self.redis.scan_iter(UNFIT + "*")):
            found |= self.unfit(name.removeprefix(UNFIT))
        return found

    def note_rate(self, child: str, tokens_per_s: float) -> None:
        """Note for a week how fast a child labels."""
        self.redis.hset(RATES, child, f"{tokens_per_s:.0f}")
        self.redis.expire(RATES, RATES_KEPT_S)

    def rates(self) -> list[float]:
        """Tokens a second of the children of the workers there are; else of those there were."""
        found = cast(dict[str, str], self.redis.hgetall(RATES))
        there = set(self.workers())
        now = [rate for child, rate in found.items() if child.rpartition("#")[0] in there]
        return [float(rate) for rate in now or found.values()]

    def begin(self, worker: str, busy: Busy) -> None:
        """Say what a child begins to work on, or how that stands now."""
        said = json.dumps([busy.job, busy.shard, busy.token, busy.born_s, busy.idle])
        self.redis.hset(BUSY + worker, busy.field, said)
        self.redis.expire(BUSY + worker, BUSY_KEPT_S)

    def end(self, worker: str, busy: Busy) -> None:
        """Say that a child works on that no more."""
        self.redis.hdel(BUSY + worker, busy.field)

    def busy(self, worker: str) -> list[Busy]:
        """What a worker's children say they work on."""
        found = cast(dict[str, str], self.redis.hgetall(BUSY + worker))
        return [
            Busy(int(field.partition(":")[0]), *json.loads(text)) for field, text in found.items()
        ]


def planner_lock(job: str) -> str:
    """The name of the lock that a process holds for as long as it plans a job."""
    return f"mtl:{{{job}}}:planner"


class Lock:
    """A lock that ends by itself when its holder dies."""

    def __init__(self, client: redis.Redis, name: str) -> None:
        # The thread that renews the lock is not the one that took it.
        self._lock = client.lock(name, timeout=1, thread_local=False)

    def hold(self, seconds: float) -> bool:
        """Take the lock, or renew it, for ``seconds``; False while another process holds it."""
        with suppress(LockError):  # it was never held, or has run out: take it anew
            return bool(self._lock.extend(seconds, replace_ttl=True))
        self._lock.timeout = seconds
        return bool(self._lock.acquire(blocking=False))

    @contextmanager
    def held(self, seconds: float) -> Iterator[bool]:
        """Hold the lock for as long as the block runs; yields whether it could be taken.

        Args:
            seconds: after so long the lock ends if this process dies; until then it is renewed.
        """
        if not self.hold(seconds):
            yield False
            return
        over = threading.Event()

        def renew() -> None:
            while not over.wait(seconds / 3):
                with suppress(redis.RedisError):
                    self.hold(seconds)

        thread = threading.Thread(target=renew, name=f"lock {self._lock.name}", daemon=True)
        thread.start()
        try:
            yield True
        finally:
            over.set()
            thread.join()
            self.release()

    def release(self) -> None:
        """Give the lock back if it is still held."""
        with suppress(LockError):
            self._lock.release()
