"""A cluster that KEDA scales by the length of the queue: simulated, shard by shard.

The rule is that of ``deploy/kubernetes/keda`` and of Kubernetes' HorizontalPodAutoscaler (HPA), as
their documentation has it: KEDA looks every ``polling_s``; from none it starts one worker as soon
as a shard waits, and goes to none when no shard has waited for ``cooldown_s``. Between one and
``most`` the HPA decides every ``sync_s``: one worker for ``per_worker`` shards that wait, at most
doubled or four more in 15 s, fewer only as far as it wanted over all of the last ``stabilise_s``.

A shard under way waits in no queue. A worker that is taken away gives its shard back, and that is
counted. There is no chance in any of it: the same load gives the same week.
"""

import heapq
import math
import statistics
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

TOLERANCE = 0.1
"""The HPA leaves the number of workers as it is while what it sees is this near its target."""
HOUR_S, DAY_S = 3600.0, 24 * 3600.0


@dataclass(frozen=True)
class Rule:
    """When workers come and go; the defaults are those of ``scaled.yaml`` and of Kubernetes."""

    polling_s: float = 15.0
    cooldown_s: float = 300.0
    per_worker: int = 20
    most: int = 10
    stabilise_s: float = 300.0
    sync_s: float = 15.0


@dataclass(frozen=True)
class Start:
    """How long a worker takes to come, and its machine to go."""

    node_s: float = 90.0
    """Until the cloud has started a machine."""
    image_s: float = 40.0
    """Pulling the image to it: 2 GB at 50 MB/s."""
    ready_s: float = 10.0
    """Until its container takes a shard: Python, Celery, the model."""
    linger_s: float = 600.0
    """How long an empty machine is kept: 10 minutes by the cluster autoscaler's default."""


@dataclass(frozen=True)
class Batch:
    """Rows that are submitted together."""

    at_s: float
    rows: int


@dataclass(frozen=True)
class Week:
    """What came of a load."""

    waits_s: list[float]
    """From each batch's submission to its last label; infinite where that never came."""
    machine_s: float
    """Seconds of machines that were paid for."""
    workers: list[tuple[float, int]]
    """How many workers were wanted, from which second on."""
    given_back: int
    """Shards that a worker which was taken away gave back."""

    def seconds_with(self, count: int, end_s: float) -> float:
        """For how long of the first ``end_s`` so many workers were wanted."""
        ends = [*(at_s for at_s, _ in self.workers[1:]), end_s]
        return sum(
            max(0.0, min(end, end_s) - at_s)
            for (at_s, wanted), end in zip(self.workers, ends, strict=True)
            if wanted == count
        )


@dataclass
class _Worker:
    since_s: float
    """When its machine was ordered."""
    ready_s: float
    batch: int | None = None
    """What its shard is of; None while it has none."""
    gone: bool = False


class Cluster:
    """One queue, and workers by a rule; without a rule, as many as are given, all the time."""

    def __init__(
        self,
        batches: Sequence[Batch],
        *,
        shard_rows: int,
        shard_s: float,
        plan_s: float = 0.0,
        rule: Rule | None = None,
        fixed: int = 0,
        start: Start | None = None,
    ) -> None:
        """Keep what is given.

        A worker takes ``shard_s`` for a shard; the planner has a batch's next one after ``plan_s``.
        """
        self._rule, self._start, self._shard_s = rule, start or Start(), shard_s
        self._batches = batches
        self._left = [-(-batch.rows // shard_rows) for batch in batches]
        """Shards of each batch that are not done."""
        self._ends = [batch.at_s for batch in batches]
        self._events: list[tuple[float, int, Callable[[float], None]]] = []
        self._count = 0
        self._queue: deque[int] = deque()
        """Of each shard that waits, its batch."""
        self._workers = [_Worker(0.0, 0.0) for _ in range(fixed)]
        self._kept: list[tuple[float, float]] = []
        """Empty machines: since when each is paid for, and until when it is kept."""
        self._paid_s, self._given_back, self._active_s = 0.0, 0, -math.inf
        self._wishes: deque[tuple[float, int]] = deque()
        self._series = [(0.0, fixed)]
        for index, batch in enumerate(batches):
            for shard in range(self._left[index]):
                self._at(batch.at_s + (shard + 1) * plan_s, partial(self._submit, index))
        if rule is not None:
            self._at(0.0, self._poll)
            self._at(0.0, self._sync)

    def run(self, until_s: float) -> Week:
        """Simulate for so long; until all is labelled, at most for twice as long."""
        now = 0.0
        while self._events and self._events[0][0] <= until_s * (2 if any(self._left) else 1):
            now, _, act = heapq.heappop(self._events)
            act(now)
        end = max(until_s, now)
        paid = self._paid_s + sum(end - worker.since_s for worker in self._workers)
        paid += sum(min(end, until) - since for since, until in self._kept)
        ends = [math.inf if n else at for n, at in zip(self._left, self._ends, strict=True)]
        waits = [at - batch.at_s for at, batch in zip(ends, self._batches, strict=True)]
        return Week(waits, paid, self._series, self._given_back)

    def _at(self, at_s: float, act: Callable[[float], None]) -> None:
        heapq.heappush(self._events, (at_s, self._count, act))
        self._count += 1

    # --- shards

    def _submit(self, batch: int, now: float) -> None:
        self._queue.append(batch)
        self._hand_out(now)

    def _hand_out(self, now: float) -> None:
        for worker in self._workers:
            if not self._queue:
                return
            if worker.batch is None and worker.ready_s <= now:
                worker.batch = self._queue.popleft()
                self._at(now + self._shard_s, partial(self._complete, worker))

    def _complete(self, worker: _Worker, now: float) -> None:
        if worker.gone or worker.batch is None:
            return
        self._left[worker.batch] -= 1
        self._ends[worker.batch] = now
        worker.batch = None
        self._hand_out(now)

    # --- the rule

    def _poll(self, now: float) -> None:
        """KEDA's look: from none to one, and to none."""
        assert self._rule is not None
        if self._queue:
            self._active_s = now
            if not self._workers:
                self._scale(now, 1)
        elif self._workers and now - self._active_s >= self._rule.cooldown_s:
            self._scale(now, 0)
            self._wishes.clear()
        self._at(now + self._rule.polling_s, self._poll)

    def _sync(self, now: float) -> None:
        """The HPA's decision, between one and the most."""
        assert self._rule is not None
        self._at(now + self._rule.sync_s, self._sync)
        here = len(self._workers)
        if not here:
            return
        ratio = len(self._queue) / (self._rule.per_worker * here)
        wish = here
        if abs(ratio - 1) > TOLERANCE:
            wish = math.ceil(len(self._queue) / self._rule.per_worker)
        wish = min(max(wish, 1), self._rule.most)
        self._wishes.append((now, wish))
        while self._wishes[0][0] <= now - self._rule.stabilise_s:
            self._wishes.popleft()
        if wish > here:
            self._scale(now, min(wish, max(2 * here, here + 4)))
        else:
            self._scale(now, min(here, max(wish for _, wish in self._wishes)))

    def _scale(self, now: float, wanted: int) -> None:
        if wanted == len(self._workers):
            return
        while len(self._workers) < wanted:
            self._order(now)
        # Kubernetes takes those first that are not ready yet, then the youngest.
        self._workers.sort(key=lambda worker: worker.ready_s)
        while len(self._workers) > wanted:
            self._take_away(now, self._workers.pop())
        self._series.append((now, wanted))

    def _order(self, now: float) -> None:
        self._paid_s += sum(until - since for since, until in self._kept if until <= now)
        self._kept = [pair for pair in self._kept if pair[1] > now]
        cold = self._start.node_s + self._start.image_s
        since, wait_s = (self._kept.pop()[0], 0.0) if self._kept else (now, cold)
        worker = _Worker(since, now + wait_s + self._start.ready_s)
        self._workers.append(worker)
        self._at(worker.ready_s, self._hand_out)

    def _take_away(self, now: float, worker: _Worker) -> None:
        worker.gone = True
        self._kept.append((worker.since_s, now + self._start.linger_s))
        if worker.batch is not None:
            self._given_back += 1
            self._queue.append(worker.batch)


def workdays(weekly: int, hourly: int) -> list[Batch]:
    """A week's load: ``weekly`` rows on Monday at 6, ``hourly`` each hour from 8 to 17, Monday to
    Friday. Second 0 is Monday, midnight."""
    batches = [Batch(6 * HOUR_S, weekly)] if weekly else []
    hours = [day * DAY_S + hour * HOUR_S for day in range(5) for hour in range(8, 18)]
    return batches + [Batch(at_s, hourly) for at_s in hours if hourly]


def week(options: Any) -> list[dict[str, Any]]:
    """A week by KEDA's rule, and with each fixed number of workers, by the flags given."""
    rule = Rule(options.polling_s, options.cooldown_s, options.per_worker, options.most)
    start = Start(options.node_s, options.image_s, options.ready_s, options.linger_s)
    batches = workdays(int(options.weekly), int(options.hourly))
    shard_s = options.shard_rows / options.rows_per_s + (options.redis_ms + options.store_ms) / 1000
    found = []
    for fixed in (0, *options.fixed):
        cluster = Cluster(
            batches,
            shard_rows=options.shard_rows,
            shard_s=shard_s,
            plan_s=options.shard_rows / options.plan_rows_per_s,
            rule=None if fixed else rule,
            fixed=fixed,
            start=start,
        )
        told = cluster.run(7 * DAY_S)
        hours = told.machine_s / HOUR_S
        found.append(
            {
                "workers": f"{fixed} all the time" if fixed else f"0 to {options.most} by KEDA",
                "most_at_once": max(count for _, count in told.workers),
                "machine_hours": round(hours, 1),
                "cost": round(hours * options.price_hour, 2),
                "wait_min_weekly": round(told.waits_s[0] / 60, 1) if options.weekly else None,
                "wait_min_median": round(statistics.median(told.waits_s) / 60, 1),
                "wait_min_worst": round(max(told.waits_s) / 60, 1),
                "shards_given_back": told.given_back,
                "hours_with_none": round(told.seconds_with(0, 7 * DAY_S) / HOUR_S, 1),
            }
        )
    return found


def add_flags(known: Any) -> None:
    """Add the flags of ``capacity.py week`` to its parser."""
    known.add_argument("--rows-per-s", type=float, required=True, help="of one worker, whole jobs")
    known.add_argument("--weekly", type=float, default=5e6, help="rows on Monday at 6")
    known.add_argument("--hourly", type=float, default=2e5, help="rows, 8 to 17 on working days")
    known.add_argument("--fixed", type=int, nargs="*", default=[1, 2, 4, 10], help="to compare")
    known.add_argument("--shard-rows", type=int, default=2048)
    known.add_argument("--plan-rows-per-s", type=float, default=580_000)
    known.add_argument("--redis-ms", type=float, default=1.0, help="of Redis, a shard")
    known.add_argument("--store-ms", type=float, default=150, help="one read and one write")
    known.add_argument("--price-hour", type=float, default=0.09)
    for name, default, told in (
        ("polling-s", Rule.polling_s, "pollingInterval"),
        ("cooldown-s", Rule.cooldown_s, "cooldownPeriod"),
        ("per-worker", Rule.per_worker, "shards that wait for each worker"),
        ("most", Rule.most, "maxReplicaCount"),
        ("node-s", Start.node_s, "until a machine is there"),
        ("image-s", Start.image_s, "pulling the image to a new machine"),
        ("ready-s", Start.ready_s, "until a worker takes shards"),
        ("linger-s", Start.linger_s, "an empty machine is kept"),
    ):
        known.add_argument(f"--{name}", type=type(default), default=default, help=told)
