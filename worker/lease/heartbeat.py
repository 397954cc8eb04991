"""Beats for one leased shard: they keep the lease, tell progress and bring the word to stop."""

import logging
import threading
import time
from types import TracebackType

import redis

from jobs.ledger.ledger import Ledger
from jobs.ledger.outcome import Outcome

# As long as a child tries to reach Redis: worker.process.own.CHILD_PATIENCE.
CONFIRM_PATIENCE_S = 300.0
CONFIRM_POLL_S = 0.05

log = logging.getLogger(__name__)

# Set in the worker's parent and children when the worker is told to leave (see worker.app).
leaving = threading.Event()
# Set in a child whose GPU fails at everything from now on: the child ends, and a new one begins.
unusable = threading.Event()


class StopWork(Exception):
    """Raised where a child must leave its shard at once.

    ``answer`` is why: CLOSED, STALE, or LEAVING when the worker leaves.
    """

    def __init__(self, answer: Outcome) -> None:
        super().__init__(answer)
        self.answer = answer


class Heartbeat:
    """A thread that beats while a shard is worked on; use as a context."""

    def __init__(self, ledger: Ledger, job: str, shard: str, token: str) -> None:
        self._ledger, self._job, self._shard, self._token = ledger, job, shard, token
        self._progress = 0
        self._pulse = 0
        self._answer = Outcome.OK
        self._sure_until = time.monotonic() + ledger.settings.lease_s
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)

    def progress(self, done: int) -> None:
        """Note how much is done. The worker calls it after each batch.

        Raises:
            StopWork: the job was closed, the lease was lost, or this worker is leaving.
        """
        self._progress = done
        self.pulse()

    def pulse(self) -> None:
        """Note that work goes on. Called every few seconds by work that finishes no rows.

        Raises:
            StopWork: as :meth:`progress`.
        """
        self._pulse += 1
        self.stop_if_told()

    def stop_if_told(self) -> None:
        """Raise StopWork as :meth:`progress` does, but give no sign of life.

        For code that only waits.
        """
        if leaving.is_set() or unusable.is_set():
            raise StopWork(Outcome.LEAVING)
        if self._answer != Outcome.OK:
            raise StopWork(self._answer)

    def confirm(self) -> None:
        """Return once the lease is known to be still held; called before a part is written.

        A worker that was cut off from Redis may have lost its lease, and the job may have ended
        since. Its part would then hold rows that are already there. So the worker waits until Redis
        has answered a beat. A restart of Redis itself loses no lease.

        Raises:
            StopWork: as :meth:`progress`; or STALE, if Redis did not answer within
                :data:`CONFIRM_PATIENCE_S`.
        """
        deadline = time.monotonic() + CONFIRM_PATIENCE_S
        while time.monotonic() >= self._sure_until:
            self.stop_if_told()
            if time.monotonic() > deadline:
                raise StopWork(Outcome.STALE)
            time.sleep(CONFIRM_POLL_S)
        self.stop_if_told()

    def _beat(self) -> None:
        while not self._over.wait(self._ledger.settings.beat_s):
            asked = time.monotonic()
            try:
                self._answer = self._ledger.beat(
                    self._job, self._shard, self._token, self._progress, self._pulse
                )
                self._sure_until = asked + self._ledger.settings.lease_s
            except redis.RedisError as error:  # the lease may outlast it; complete() tells
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
