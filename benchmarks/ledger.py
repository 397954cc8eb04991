"""How much the ledger and the queue cost.

``python benchmarks/ledger.py [--shards 100000] [--claimers 32] [--rows 50000] [--runs 5]``

1. Scale: a job of many shards; claimers in processes of their own claim and complete all of them.
   Prints claims a second, Redis' memory a shard, and how long ``mtl status`` takes.
2. Cost of the queue: the same staged shards of short sentences labelled by a worker's own code
   (read, engine, Parquet) in this process, and as a job through Redis and Celery; start-up aside,
   interleaved, medians. Prints the ratio.
"""

import argparse
import json
import multiprocessing
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path

import redis
from support import Worker, manifest_of, write_sentences

from jobs.embedded import EmbeddedRedis
from jobs.input.source import open_source, read_source
from jobs.label.plan import ShardCutter
from jobs.label.staging import stage_shard
from jobs.ledger.ledger import Ledger
from jobs.ledger.lifecycle import JobState
from jobs.ledger.scripts import PARTS, key
from jobs.settings import Settings
from jobs.specs import LabelSpec, TrainSpec
from mtl_core.storage.folder import Folder

JOB = "train-benchmark"


def claimer(url: str, names: list[str]) -> None:
    """Claim and complete shards, as a worker does without the work between."""
    ledger = Ledger(url, Settings())
    for name in names:
        token = uuid.uuid4().hex
        if ledger.claim(JOB, name, token, "bench:1").answer == "LEASED":
            result = {"part": f"part-{name}-a1.parquet", "rows": 1, "failed": 0, "sha256": "0" * 64}
            ledger.complete(JOB, name, token, result | {"worker": "bench:1", "bytes": 123456})


def scale(url: str, shards: int, claimers: int) -> dict[str, float]:
    """Claims a second, bytes a shard, and seconds of a status, over one large job."""
    spec = TrainSpec(
        name="m", output="/m", data_dir=None, preset="recommended", scenario="frozen",
        settings={}, backbone="b", tasks=(), command="mtl train",
    )  # fmt: skip
    ledger = Ledger(url, Settings())
    ledger.redis.flushall()
    ledger.create(JOB, spec)
    empty = int(ledger.redis.info("memory")["used_memory"])
    names = [f"{number:05d}" for number in range(shards)]
    started = time.perf_counter()
    for start in range(0, shards, 1000):
        ledger.add_shards(
            JOB, {n: {"file": f"shard-{n}.parquet", "rows": 1} for n in names[start : start + 1000]}
        )
    added_s = time.perf_counter() - started
    ledger.update(JOB, planned=1, rows_total=shards)
    ledger.transition(JOB, JobState.RUNNING)
    pending = int(ledger.redis.info("memory")["used_memory"])
    pool = [
        multiprocessing.Process(target=claimer, args=(url, names[index::claimers]))
        for index in range(claimers)
    ]
    started = time.perf_counter()
    for process in pool:
        process.start()
    for process in pool:
        process.join()
    claimed_s = time.perf_counter() - started
    assert ledger.snapshot(JOB).shards.done == shards
    done = int(ledger.redis.info("memory")["used_memory"])
    seconds = []
    for _ in range(5):
        started = time.perf_counter()
        command = [sys.executable, "-m", "jobs", "status", JOB]
        environment = {**os.environ, "MTL_REDIS_URL": url}
        subprocess.run(command, check=True, capture_output=True, env=environment)
        seconds.append(time.perf_counter() - started)
    ledger.redis.delete(*(key(JOB, part) for part in PARTS))
    return {
        "shards": shards,
        "claimers": claimers,
        "added_per_s": shards / added_s,
        "claim_and_complete_per_s": shards / claimed_s,
        "bytes_per_pending_shard": (pending - empty) / shards,
        "bytes_per_done_shard": (done - empty) / shards,
        "status_s": statistics.median(seconds),
    }


def through_the_queue(worker: Worker, source: Path, output: Path) -> tuple[float, float]:
    """A whole job: seconds from first claim to last completion, and those without labelling.

    The second figure comes from one and the same run, so a machine whose speed drifts cannot
    blur it: it is the time when the worker's engine had nothing to do.
    """
    worker.label(source, output, wait=True)
    manifest = manifest_of(output)
    ledger = Ledger(worker.environment["MTL_REDIS_URL"], Settings())
    attempts = ledger.attempts(manifest["job"])
    assert {a["outcome"] for a in attempts} == {"done"}
    span = max(a["ended_ms"] for a in attempts) - min(a["started_ms"] for a in attempts)
    worked = sum(part["seconds"]["label"] for part in manifest["parts"])
    return span / 1000, span / 1000 - worked


IN_PROCESS = """
import json, sys, time
from types import SimpleNamespace
from jobs.specs import LabelSpec
from mtl_core.storage.address import place_of
from worker.engines import engine_of, folder_of
from worker.label import answer_shard, prepare_shard, write_shard
from worker.lease.attempt import Attempt

spec = LabelSpec.model_validate_json(sys.stdin.read())
shards = json.loads(sys.argv[1])
engine = engine_of(spec, folder_of(spec.model_dir, spec.model_sha256), place_of(spec.output))
engine.label(["warm up"] * 100, lambda done: None)
untold = SimpleNamespace(progress=lambda done: None, confirm=lambda: None, pulse=lambda: None)
started = time.perf_counter()
for name, definition in shards.items():
    attempt = Attempt("label-bench", spec, name, "0" * 32, 1, definition, "bench:1")
    ready = prepare_shard(attempt, untold)
    write_shard(attempt, ready, answer_shard(ready, untold.progress), untold)
print(time.perf_counter() - started)
"""


def in_process(spec: LabelSpec, output: Path) -> float:
    """Seconds for the same shards by the same code, without Redis and Celery."""
    shards = stage(spec, output)
    done = subprocess.run(
        [sys.executable, "-c", IN_PROCESS, json.dumps(shards)],
        input=spec.model_copy(update={"output": str(output)}).model_dump_json(),
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return float(done.stdout)


def stage(spec: LabelSpec, output: Path) -> dict[str, dict[str, str | int]]:
    """The job's shards staged for the run without a queue."""
    opened = open_source(spec.inputs, (), set())
    cutter = ShardCutter(spec, opened)
    tables = [table for chunk in read_source(opened) for table in cutter.add(chunk)]
    return dict(stage_shard(Folder(output), cutter.number(), t) for t in [*tables, *cutter.rest()])


def queue_cost(url: str, rows: int, runs: int) -> dict[str, float]:
    """Medians with and without the queue, and of the ratios pair by pair; each goes first in turn.

    One job before the counted ones warms the machine and gives the spec.
    """
    with_queue, unlabelled, without = [], [], []
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root)
        source = folder / "in.txt"
        write_sentences(source, rows)
        with Worker(url, folder) as worker:
            through_the_queue(worker, source, folder / "first")
        manifest = manifest_of(folder / "first")
        spec = Ledger(url, Settings()).spec(manifest["job"])
        assert isinstance(spec, LabelSpec)

        def queue() -> None:
            shutil.rmtree(folder / "warm", ignore_errors=True)
            with Worker(url, folder) as worker:
                seconds, idle = through_the_queue(worker, source, folder / "out")
            with_queue.append(seconds)
            unlabelled.append(idle)
            shutil.rmtree(folder / "out")

        def alone() -> None:
            without.append(in_process(spec, folder / "alone"))
            shutil.rmtree(folder / "alone")

        for run in range(runs):
            for way in (queue, alone) if run % 2 else (alone, queue):
                way()
    ratios = [a / b for a, b in zip(with_queue, without, strict=True)]
    return {
        "rows": rows,
        "runs": runs,
        "through_the_queue_s": statistics.median(with_queue),
        "in_process_s": statistics.median(without),
        "ratio": statistics.median(ratios),
        "ratio_min": min(ratios),
        "ratio_max": max(ratios),
        "without_labelling_s": statistics.median(unlabelled),
        "without_labelling_share": statistics.median(
            idle / total for idle, total in zip(unlabelled, with_queue, strict=True)
        ),
    }


def main() -> None:
    """Measure and print one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shards", type=int, default=100_000)
    parser.add_argument("--claimers", type=int, default=32)
    parser.add_argument("--rows", type=int, default=50_000)
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as state, EmbeddedRedis(Path(state)) as server:
        version = redis.Redis.from_url(server.url).info("server")["redis_version"]
        report = {
            "machine": f"{platform.machine()}, {os.cpu_count()} cores",
            "redis": version,
            "python": platform.python_version(),
            "scale": scale(server.url, options.shards, options.claimers),
            "queue": queue_cost(server.url, options.rows, options.runs),
        }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
