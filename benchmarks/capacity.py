"""What many rows take on many machines: a simulation, and its check against real runs here.

``python benchmarks/capacity.py measure``: what a shard costs on this machine: planning, the
worker's CPU outside the engine, Redis' CPU; and the speed of planning and of the tokeniser.

``python benchmarks/capacity.py check``: jobs on 1 to 8 real workers whose engine only waits
(:mod:`simulated`), beside what the simulation says of the same; with and without the wait.

``python benchmarks/capacity.py project --rows 1e9 --rows-per-s 766 --machines 10 100 1000``: hours,
cost and what limits. Rates and prices are flags.

``python benchmarks/capacity.py week --rows-per-s 766``: a week's load on the workers that KEDA
would make of it (:mod:`keda`), and on a fixed number: waiting, machine-hours, cost.

Simulated are shards that pass through a planner, one Redis, the cores of each machine, the engine
and a store; each serves one after another (as many at a time as there are cores). Prints JSON.
"""

import argparse
import heapq
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import redis
from keda import add_flags, week
from support import Worker, manifest_of, write_sentences
from whole_job import span_of

from jobs.embedded import EmbeddedRedis
from jobs.ledger.ledger import Ledger
from jobs.settings import Settings

SHARD_ROWS = 250
LARGE_ROWS = 500_000
WAITED_ROWS = 6_000
IDLE_S = 6.0
TOKENS_PER_S = 5000


@dataclass(frozen=True)
class Costs:
    """Seconds that one shard takes of everything it passes through."""

    plan_s: float
    """Of the one planner: reading and staging its rows."""
    redis_s: float
    """Of Redis: messages, claim, complete."""
    cpu_s: float
    """Of one core of its machine, outside the engine: tokenising, Parquet, Python."""
    engine_s: float
    """Of its worker, in the engine."""
    store_s: float = 0.0
    """Waiting for disk, store and network: a read and a write."""


@dataclass(frozen=True)
class Outcome:
    """A simulated job."""

    seconds: float
    busy: dict[str, float]
    """Share of the time in which each was busy; of engines and cores, the mean."""

    @property
    def limit(self) -> str:
        """What was busiest."""
        return max(self.busy, key=lambda name: self.busy[name])


def simulate(costs: Costs, shards: int, workers: int, *, machines: int, cores: int) -> Outcome:
    """Seconds from the first claim to the last completion, workers spread over equal machines."""
    queue = [(0.0, worker, worker, "claim") for worker in range(workers)]
    free = [[0.0] * cores for _ in range(machines)]
    redis_free = 0.0
    taken, end, order = 0, 0.0, workers
    while queue:
        now, _, worker, step = heapq.heappop(queue)
        machine = free[worker % machines]
        if step == "claim":
            if taken == shards:
                continue
            taken += 1
            now = max(now, taken * costs.plan_s)  # it must have been planned
            redis_free = max(now, redis_free) + costs.redis_s / 2
            done, after = redis_free + costs.store_s / 2, "prepare"
        elif step in ("prepare", "write"):  # half of the CPU's work lies before the engine's
            done = max(now, heapq.heappop(machine)) + costs.cpu_s / 2
            heapq.heappush(machine, done)
            done, after = (
                (done + costs.engine_s, "write")
                if step == "prepare"
                else (done + costs.store_s / 2, "complete")
            )
        else:
            redis_free = max(now, redis_free) + costs.redis_s / 2
            end = max(end, redis_free)
            done, after = redis_free, "claim"
        heapq.heappush(queue, (done, order, worker, after))
        order += 1
    busy = {
        "planner": shards * costs.plan_s / end,
        "Redis": shards * costs.redis_s / end,
        "cores": shards * costs.cpu_s / (end * machines * cores),
        "engines": shards * costs.engine_s / (end * workers),
    }
    return Outcome(end, busy)


# --- real runs


@contextmanager
def waiting_workers(url: str, count: int, rate: float) -> Iterator[list[Worker]]:
    """Real workers whose engine waits by ``rate`` tokens a second (0: not at all), warmed up."""
    path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root)
        simulated = {"PYTHONPATH": path, "MTL_SIMULATED_TOKENS_PER_S": str(rate)}
        workers = [Worker(url, folder, "simulated", **simulated).start() for _ in range(count)]
        try:
            write_sentences(folder / "warm.txt", 400 * count)
            few = ("--shard-rows", "20")  # so that each has some and loads its model
            workers[0].label(folder / "warm.txt", folder / "warm", *few, wait=True)
            yield workers
        finally:
            for worker in workers:
                worker.stop()


def run_job(url: str, workers: list[Worker], rows: int) -> tuple[float, dict[str, Any]]:
    """A job's seconds from first claim to last completion, and its manifest."""
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root)
        write_sentences(folder / "in.txt", rows)
        small = ("--shard-rows", str(SHARD_ROWS))
        workers[0].label(folder / "in.txt", folder / "out", *small, wait=True)
        return span_of(url, folder / "out"), manifest_of(folder / "out")


def cpu_of(worker: Worker) -> float:
    """CPU seconds a worker has used so far, its children's with it."""
    parent = psutil.Process(worker.process.pid)
    family = [parent, *parent.children(recursive=True)]
    return sum(p.cpu_times().user + p.cpu_times().system for p in family)


def machine_cpu() -> float:
    """CPU seconds that all processes of this machine have used so far."""
    used = psutil.cpu_times()
    return float(used.user + used.system + used.nice)


def redis_busy(url: str) -> float:
    """CPU seconds Redis has used so far."""
    with redis.Redis.from_url(url) as client:
        used = client.info("cpu")
    return float(used["used_cpu_user"]) + float(used["used_cpu_sys"])


def measure(url: str, rows: int) -> dict[str, float]:
    """The costs of a shard of :data:`SHARD_ROWS` short sentences: one worker without a wait."""
    shards = rows // SHARD_ROWS
    alone = idle_redis(url)
    with waiting_workers(url, 1, 0) as workers:
        run_job(url, workers, rows // 4)  # the first one finds nothing warm
        cpu, busy = cpu_of(workers[0]), redis_busy(url)
        seconds, manifest = run_job(url, workers, rows)
        cpu, busy = cpu_of(workers[0]) - cpu, redis_busy(url) - busy
        idle = idle_redis(url)
    return {
        "rows_per_shard": SHARD_ROWS,
        "tokens_per_row": manifest["tokens"] / rows,
        "cpu_s": cpu / shards,
        "wall_s": seconds / shards,
        "redis_s": busy / shards,
        "redis_s_per_s_of_an_idle_worker": idle - alone,
        "plan_s": planning_s(url, rows, SHARD_ROWS) / shards,
        "planned_rows_per_s": LARGE_ROWS / planning_s(url, LARGE_ROWS, 65_536),
        "manifest_bytes_per_part": len(json.dumps(manifest["parts"], indent=2)) / shards,
        "tokeniser_tokens_per_s_of_a_core": tokenising_rate(),
    }


def idle_redis(url: str) -> float:
    """CPU seconds a second that Redis uses while no job runs."""
    before, started = redis_busy(url), time.perf_counter()
    time.sleep(IDLE_S)
    return (redis_busy(url) - before) / (time.perf_counter() - started)


def planning_s(url: str, rows: int, shard_rows: int) -> float:
    """Seconds of planning a job by itself: no worker is there."""
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root)
        write_sentences(folder / "in.txt", rows)
        quiet = Worker(url, folder)
        size = ("--shard-rows", str(shard_rows), "--shard-tokens", "100000000")
        quiet.label(folder / "in.txt", folder / "out", *size, wait=False)
        ledger = Ledger(url, Settings())
        job = json.loads((folder / "out/_work/job.json").read_text())["job"]
        snapshot = ledger.snapshot(job)
        ledger.delete(job)
        redis.Redis.from_url(url).delete("label")
        return snapshot.changed_s - snapshot.created_s


def tokenising_rate() -> float:
    """Tokens a second of the tokeniser on one core, AG News-like lengths."""
    from mtl_core.config import DEFAULT_BACKBONE
    from mtl_core.model.backbones import resolve_backbone
    from mtl_core.model.tokenizer import Tokenizer

    file = resolve_backbone(DEFAULT_BACKBONE).folder / "tokenizer.json"
    tokenizer = Tokenizer.from_file(file, 0, 256)
    words = ("shares", "of", "the", "bank", "rose", "after", "profits", "had", "doubled")
    texts = [" ".join(words[(row + i) % len(words)] for i in range(44)) for row in range(4000)]
    tokenizer(texts[:100])
    started, cpu = time.perf_counter(), time.process_time()
    tokens = int(tokenizer(texts).lengths.sum())
    # Where it runs on several cores, its CPU time is what one would take.
    return tokens / max(time.perf_counter() - started, time.process_time() - cpu)


def check(url: str, rows: int, measured: dict[str, float]) -> list[dict[str, float]]:
    """Real and simulated seconds of 1 to 8 workers on this machine."""
    found = []
    for rate, many in ((TOKENS_PER_S, WAITED_ROWS), (0, rows)):
        tokens = SHARD_ROWS * measured["tokens_per_row"]
        costs = Costs(
            measured["plan_s"],
            measured["redis_s"],
            measured["cpu_s"],
            tokens / rate if rate else 0,
            max(0.0, measured["wall_s"] - measured["cpu_s"] - measured["redis_s"]),
        )
        for count in (1, 2, 4, 8):
            with waiting_workers(url, count, rate) as workers:
                ours, all_cpu = sum(map(cpu_of, workers)), machine_cpu()
                real, _ = run_job(url, workers, many)
                ours, all_cpu = sum(map(cpu_of, workers)) - ours, machine_cpu() - all_cpu
            cores = os.cpu_count() or 1
            told = simulate(costs, many // SHARD_ROWS, count, machines=1, cores=cores)
            found.append(
                {
                    "tokens_per_s": rate,
                    "workers": count,
                    "real_s": round(real, 2),
                    "simulated_s": round(told.seconds, 2),
                    "ratio": round(told.seconds / real, 3),
                    # Much beside a few seconds of submitting: somebody else was at work here.
                    "cpu_s_of_others": round(all_cpu - ours, 1),
                }
            )
            print(json.dumps(found[-1]), file=sys.stderr)
    return found


# --- projection


def project(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Hours, cost and limit for each number of machines."""
    rows, per_shard = int(options.rows), options.shard_rows
    shards = -(-rows // per_shard)
    costs = Costs(
        plan_s=per_shard / options.plan_rows_per_s / options.planners,
        redis_s=options.redis_ms / 1000,
        cpu_s=0.0,  # the rows a second of a machine are those of whole jobs: it is in them
        engine_s=per_shard / options.rows_per_s,
        store_s=options.store_ms / 1000,
    )
    found = []
    for machines in options.machines:
        told = simulate(costs, shards, machines, machines=machines, cores=1)
        beats = machines * options.idle_redis_ms / 1000
        busy = {**told.busy, "Redis": told.busy["Redis"] + beats}
        busy.pop("cores")
        hours = told.seconds / 3600
        gigabytes = rows * options.bytes_per_row / 1e9
        requests = shards * (2 * options.price_put + 2 * options.price_get) / 1000
        found.append(
            {
                "machines": machines,
                "hours": round(hours, 2),
                "machine_hours": round(hours * machines, 1),
                "machines_cost": round(hours * machines * options.price_hour, 0),
                "requests_cost": round(requests, 2),
                "store_cost_a_month": round(gigabytes * options.price_gb_month, 0),
                "output_gb": round(gigabytes),
                "limit": max(busy, key=lambda name: busy[name]),
                "busy": {name: round(share, 3) for name, share in busy.items()},
            }
        )
    return found


def arguments() -> argparse.Namespace:
    """What the user gave."""
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("measure", "check"):
        commands.add_parser(name).add_argument("--rows", type=int, default=32_000)
    known = commands.add_parser("project")
    known.add_argument("--rows", type=float, default=1e9)
    known.add_argument("--rows-per-s", type=float, required=True, help="of one machine, whole jobs")
    known.add_argument("--machines", type=int, nargs="+", default=[10, 100, 1000])
    known.add_argument("--shard-rows", type=int, default=65_536)
    known.add_argument("--planners", type=int, default=1, help="jobs the rows are split into")
    known.add_argument("--plan-rows-per-s", type=float, default=580_000)
    known.add_argument("--redis-ms", type=float, default=1.0, help="of Redis, a shard")
    known.add_argument("--idle-redis-ms", type=float, default=0.5, help="a worker and second")
    known.add_argument("--store-ms", type=float, default=150, help="one read and one write")
    known.add_argument("--bytes-per-row", type=float, default=1070)
    known.add_argument("--price-hour", type=float, default=0.09)
    known.add_argument("--price-put", type=float, default=0.005, help="of 1,000")
    known.add_argument("--price-get", type=float, default=0.0004, help="of 1,000")
    known.add_argument("--price-gb-month", type=float, default=0.023)
    add_flags(commands.add_parser("week"))
    return parser.parse_args()


def main() -> None:
    """Print one JSON document."""
    options = arguments()
    report: dict[str, Any] = {"machine": f"{platform.machine()}, {os.cpu_count()} cores"}
    if options.command in ("project", "week"):
        print(json.dumps((project if options.command == "project" else week)(options), indent=2))
        return
    with tempfile.TemporaryDirectory() as state, EmbeddedRedis(Path(state)) as server:
        report["measured"] = measure(server.url, options.rows)
        if options.command == "check":
            report["check"] = check(server.url, options.rows, report["measured"])
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
