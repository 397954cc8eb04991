"""Beats for one leased shard: keeps the lease, tells progress, brings back the word to stop."""

import logging
import threading
from types import TracebackType

import redis

from jobs.ledger import Ledger

log = logging.getLogger(__name__)

# Set in the worker's parent and children when the worker is told to leave (see worker.app).
leaving = threading.Event()


class StopWork(Exception):
    """Leave the shard now. ``answer``: CLOSED, STALE, or LEAVING when the worker goes."""

    def __init__(self, answer: str) -> None:
        super().__init__(answer)
        self.answer = answer


class Heartbeat:
    """A thread that beats while a shard is worked on; use as a context."""

    def __init__(self, ledger: Ledger, job: str, shard: str, token: str) -> None:
        self._ledger, self._job, self._shard, self._token = ledger, job, shard, token
        self._progress = 0
        self._answer = "OK"
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)

    def progress(self, done: int) -> None:
        """Note how much is done. The worker calls it after each batch.

        Raises:
            StopWork: the job was closed, the lease was lost, or this worker is leaving.
        """
        self._progress = done
        if leaving.is_set():
            raise StopWork("LEAVING")
        if self._answer != "OK":
            raise StopWork(self._answer)

    def _beat(self) -> None:
        while not self._over.wait(self._ledger.settings.beat_s):
            try:
                self._answer = self._ledger.beat(
                    self._job, self._shard, self._token, self._progress
                )
            except redis.RedisError as error:  # the lease may outlast it; complete will tell
                log.warning("no beat for %s/%s: %s", self._job, self._shard, error)

    def __enter__(self) -> "Heartbeat":
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self._over.set()
        self._thread.join()
