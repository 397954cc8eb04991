"""Tells of jobs that have come to rest. Every worker has one; one of them acts at a time."""

import logging
import threading
import time
from dataclasses import dataclass

import redis

from jobs.ledger.ledger import Ledger
from jobs.ledger.notices import Notice, due, note_told, note_untold
from jobs.ledger.presence import Lock
from jobs.notify import TIMEOUT_S, NotDeliveredError, send
from mtl_core.errors import MtlError

LONGEST_PAUSE_S = 600.0
TRIES = 150
"""After so many, about a day, a notice is given up."""

log = logging.getLogger(__name__)


@dataclass
class _Tries:
    number: int = 0
    next_s: float = 0.0


class Teller(threading.Thread):
    """A thread of the worker's parent process, apart from the reconciler, which must not wait."""

    def __init__(self, ledger: Ledger) -> None:
        super().__init__(name="teller", daemon=True)
        self._ledger = ledger
        self._lock = Lock(ledger.redis, "mtl:teller")
        self._tries: dict[str, _Tries] = {}
        self._over = threading.Event()

    def run(self) -> None:
        """Tell what is due, again and again, until :meth:`stop`."""
        while not self._over.wait(self._ledger.settings.reconcile_s):
            try:
                for notice in due(self._ledger):
                    if self._over.is_set() or not self._lock.hold(3 * TIMEOUT_S):
                        break
                    self._tell(notice)
            except (redis.RedisError, MtlError) as error:
                log.warning("notices wait: %s", error)
            except Exception:
                log.exception("a notice failed; the next round tries again")

    def stop(self) -> None:
        """End after what is under way."""
        self._over.set()
        try:
            self._lock.release()
        except redis.RedisError as error:
            log.warning("%s", error)

    def _tell(self, notice: Notice) -> None:
        tries = self._tries.setdefault(notice.id, _Tries())
        if time.monotonic() < tries.next_s:
            return
        job, tries.number = notice.snapshot.id, tries.number + 1
        try:
            send(self._ledger, notice, self._ledger.settings)
        except NotDeliveredError as error:
            log.warning("%s: nobody was told (try %d): %s", job, tries.number, error)
            note_untold(self._ledger, notice, str(error))
            tries.next_s = time.monotonic() + min(LONGEST_PAUSE_S, 2.0**tries.number)
            if tries.number < TRIES:
                return
            log.error("%s: the notice is given up", job)
        else:
            log.info("%s: told that it is %s", job, notice.snapshot.state)
        note_told(self._ledger, notice)
        self._tries.pop(notice.id)
