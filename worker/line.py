"""A child's shards one after another, their steps overlapped.

While one shard is labelled, the next is read and tokenised by a thread ahead, and the last is
written by a thread behind: so the device, be it a GPU or the cores, does not wait for files.

The next shard is taken shortly before it is needed, since another worker may be free meanwhile. It
comes from the same queues as Celery's messages and in the same order; where something else waits
there (a training job, a job to be finalised, another model), the line ends and Celery goes on.
"""

import time
from collections.abc import Callable, Collection
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import wait as wait_for
from dataclasses import dataclass, field
from functools import partial
from threading import Event

from jobs.ledger.messages import next_shard
from jobs.ledger.outcome import Outcome
from jobs.ledger.presence import Presence, child_name
from jobs.specs import AnySpec, LabelSpec
from mtl_core.errors import JobError
from worker.attempt import Held, take_shard
from worker.label import Answered, Ready, answer_shard, prepare_shard, write_shard
from worker.lease.heartbeat import leaving, unusable
from worker.process.own import child_place, ledger, worker_name

# A shard of more bytes is prepared only when no other is labelled, and written before the next one
# is labelled: so memory does not grow by the overlap of large shards.
OVERLAPPED_BYTES = 1 << 28
# The next shard is taken when the present one needs so many times the seconds that preparing took
# last, those of so many batches, and a little more: progress is told a batch at a time, by rows,
# and the batches under way at the end hold many short texts.
AHEAD_TIMES, AHEAD_BATCHES, AHEAD_S = 2.0, 4, 0.1
POLL_S = 0.02
PULSE_S = 0.5
# A shard of fewer tokens does not tell how fast the engine is.
TELLING_TOKENS = 8192


@dataclass
class Labelling:
    """A shard being labelled, and how far that is."""

    held: Held
    ready: Ready
    begun_s: float = field(default_factory=time.monotonic)
    done: int = 0
    batches: int = 0
    over: Event = field(default_factory=Event)

    def progress(self, done: int) -> None:
        """Note how many texts are done; raises StopWork as the heartbeat does."""
        self.done, self.batches = done, self.batches + 1
        self.held.heartbeat.progress(done)

    def remaining_s(self) -> float:
        """Seconds until it is labelled, as far as can be told."""
        if not self.done:
            return float("inf") if self.ready.rows else 0.0
        return (time.monotonic() - self.begun_s) * (self.ready.rows - self.done) / self.done

    def batch_s(self) -> float:
        """Seconds from one batch's end to the next one's, as far as can be told."""
        return (time.monotonic() - self.begun_s) / max(1, self.batches)


class Line:
    """The line of one child: one shard ahead, one labelled, one behind."""

    def __init__(self, queues: Collection[str], settled: Callable[[str], None]) -> None:
        """Args:
        queues: those that this worker serves, in the order in which it looks at them.
        settled: called with each job whose last shard was completed.
        """
        self._queues, self._settled = queues, settled
        self._taken: list[Held] = []
        self._over = Event()
        self._rate: float | None = None

    def run(self, first: Held) -> None:
        """Work on a shard, and on those that wait behind it, until there is none to take."""
        with ThreadPoolExecutor(1, "ahead") as ahead, ThreadPoolExecutor(1, "behind") as behind:
            try:
                self._run(first, ahead, behind)
            finally:  # whatever happened, no shard stays in hand
                self._over.set()
                ahead.shutdown()
                behind.shutdown()
                for held in self._taken:
                    held.drop()

    def _run(self, first: Held, ahead: ThreadPoolExecutor, behind: ThreadPoolExecutor) -> None:
        self._take(first)
        alone = not _is_fresh(first.attempt.job, first.attempt.shard)
        ready = first.do(partial(prepare_shard, first.attempt, first.heartbeat))
        current = Labelling(first, ready) if ready else None
        written: Future[None] = Future()
        written.set_result(None)
        while current is not None:
            following = None if alone else ahead.submit(self._next, current)
            answered = current.held.do(partial(self._answer, current, written))
            written.result()
            if answered is not None:
                written = behind.submit(self._write, current, answered)
                if answered.nbytes > OVERLAPPED_BYTES:
                    written.result()
            current.over.set()
            current = following.result() if following else None
        written.result()

    def _answer(self, current: Labelling, written: "Future[None]") -> Answered:
        """Label a shard's texts; then wait until the shard before it is written."""
        current.held.heartbeat.stop_if_told()
        current.begun_s = time.monotonic()
        answered = answer_shard(current.ready, current.progress)
        while not wait_for([written], PULSE_S).done:
            current.held.heartbeat.pulse()
        return answered

    def _write(self, current: Labelling, answered: Answered) -> None:
        held = current.held
        step = partial(write_shard, held.attempt, current.ready, answered, held.heartbeat)
        result = held.do(step)
        if result is None:
            return
        outcome = held.complete(result)
        self._note_rate(answered)
        if outcome is Outcome.LAST:
            self._settled(held.attempt.job)

    def _note_rate(self, answered: Answered) -> None:
        """Tell planners how fast this child is: shards are sized by that."""
        tokens = int(answered.labelled.lengths.sum())
        if tokens < TELLING_TOKENS:
            return
        rate = tokens / answered.label_s
        self._rate = rate if self._rate is None else (self._rate + rate) / 2
        name = child_name(worker_name(), child_place())
        Presence(ledger().redis).note_rate(name, self._rate)

    def _next(self, current: Labelling) -> Labelling | None:
        """Take and prepare the next shard when it is time; None if there is none to take."""
        # Said by this thread, so that labelling goes on while Redis is away.
        current.held.at_work()
        while not current.over.wait(POLL_S) and not self._is_time(current):
            if self._over.is_set() or _ends():
                return None
        spec = current.held.attempt.spec
        while not _ends():
            found = next_shard(ledger().redis, self._queues, partial(_follows, spec))
            if found is None:
                return None
            held = take_shard(*found)
            if held in (Outcome.DECLINED, Outcome.DOUBTED):
                return None
            if isinstance(held, Held):
                self._take(held)
                ready = held.do(partial(prepare_shard, held.attempt, held.heartbeat))
                if ready is None:
                    return None
                held.idle()
                return Labelling(held, ready)
        return None

    def _take(self, held: Held) -> None:
        self._taken = [*(each for each in self._taken if each.outcome is None), held]

    @staticmethod
    def _is_time(current: Labelling) -> bool:
        if current.ready.nbytes > OVERLAPPED_BYTES:
            return False
        ahead = AHEAD_TIMES * current.ready.load_s + AHEAD_BATCHES * current.batch_s() + AHEAD_S
        return current.remaining_s() <= ahead


def _ends() -> bool:
    """Whether this child takes no more shards."""
    return leaving.is_set() or unusable.is_set()


def _follows(before: AnySpec, job: str, shard: str) -> bool:
    """Whether a shard may follow in the line behind one of another spec.

    One that failed before may not: if it makes its process die, no other shard is to die with it.
    """
    try:
        spec = ledger().spec(job)
    except JobError:
        return False
    return (
        isinstance(spec, LabelSpec)
        and isinstance(before, LabelSpec)
        and _engine_of(spec) == _engine_of(before)
        and _is_fresh(job, shard)
    )


def _engine_of(spec: LabelSpec) -> tuple[str, ...]:
    return spec.model_dir, spec.model_sha256, spec.precision


def _is_fresh(job: str, shard: str) -> bool:
    return "." not in shard and not ledger().strikes(job, shard)
