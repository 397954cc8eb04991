"""Whole jobs, from file to Parquet through Redis and Celery: what they cost beside the engine.

``python benchmarks/whole_job.py --data DIR [--rows 4000] [--runs 5] [PART …]``; parts:

- ``engine``: a job's seconds from first claim to last completion against the engine alone on ready
  tokens (no reading, tokenising or writing), AG News' test texts and SST-2's phrases, in turn; and
  for which share of the job's time the engine was labelling, which a noisy machine does not blur.
- ``batches``: the engine in shards as a job cuts them, each shard of other texts: batches of texts
  as alike as the engine has them against batches as full as can be, in turn.
- ``workers``: two workers of one core each against one.
- ``simulated``: 1 to 16 workers whose engine only waits (:mod:`simulated`), so that the queue, the
  ledger and the files are what limits.
- ``memory``: peak memory of submitter and worker, 10,000 to 1,000,000 rows (simulated engine
  without waiting; the real one's batches do not depend on the number of rows).
- ``first``: seconds from the start of ``mtl label`` to the first finished part, embedded.

Prints JSON.
"""

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
from support import Worker, manifest_of, write_sentences

from jobs.embedded import EmbeddedRedis
from jobs.ledger.ledger import Ledger
from jobs.settings import Settings, settings
from jobs.specs import AnySpec
from mtl_core.engine.base import Encoded, Engine
from mtl_core.engine.load import load_engine
from mtl_core.model.registry import SHIPPED_MODELS

TEXTS = {
    "AG News": ("ag_news/test.parquet", "text"),
    "SST-2": ("sst2/train.parquet", "sentence"),
}

FIRST_SHARDS = 512, 1024, 2048
"""Rows of a job's first shards."""

READY_TOKENS = """
import sys, time
import pyarrow.parquet as pq
from mtl_core.storage.address import place_of
from worker.engines import engine_of, folder_of
from jobs.specs import LabelSpec
spec = LabelSpec.model_validate_json(sys.stdin.read())
engine = engine_of(spec, folder_of(spec.model_dir, spec.model_sha256), place_of(spec.output))
texts = pq.read_table(sys.argv[1])["text"].to_pylist()
engine.label(texts[:200], lambda done: None)
encoded = engine.encode(texts)
started = time.perf_counter()
engine.label_encoded(encoded, lambda done: None)
print(time.perf_counter() - started)
"""


def span_of(url: str, output: Path) -> float:
    """Seconds from a finished job's first claim to its last completion."""
    attempts = Ledger(url, Settings()).attempts(manifest_of(output)["job"])
    assert {a["outcome"] for a in attempts} == {"done"}
    ended, started = (
        f(a[k] for a in attempts) for f, k in ((max, "ended_ms"), (min, "started_ms"))
    )
    return (ended - started) / 1000


def drawn(data: Path, name: str, rows: int, target: Path) -> Path:
    """A Parquet file of different texts."""
    file, column = TEXTS[name]
    texts = sorted(set(pq.read_table(data / file)[column].to_pylist()))
    chosen = np.random.default_rng(0).choice(len(texts), min(rows, len(texts)), replace=False)
    pq.write_table(pa.table({"text": [texts[row] for row in chosen]}), target)
    return target


def engine_alone(spec: AnySpec, source: Path) -> float:
    """Seconds of the engine on ready tokens, in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", READY_TOKENS, str(source)],
        input=spec.model_dump_json(), capture_output=True, text=True, check=True,
    )  # fmt: skip
    return float(done.stdout)


def engine_share(url: str, data: Path, rows: int, runs: int) -> dict[str, object]:
    """The engine's seconds on ready tokens, before and after a job, as a share of the job's."""
    found = {}
    with tempfile.TemporaryDirectory() as root, Worker(url, Path(root)) as worker:
        folder = Path(root)
        for name, many in (("AG News", rows), ("SST-2", 5 * rows)):
            source = drawn(data, name, many, folder / f"{name}.parquet")
            worker.label(source, folder / "first", wait=True)
            spec = Ledger(url, Settings()).spec(manifest_of(folder / "first")["job"])
            jobs, labelling = [], []
            alone = [engine_alone(spec, source)]
            for _ in range(runs):
                shutil.rmtree(folder / "out", ignore_errors=True)
                worker.label(source, folder / "out", wait=True)
                jobs.append(span_of(url, folder / "out"))
                parts = manifest_of(folder / "out")["parts"]
                labelling.append(sum(part["seconds"]["label"] for part in parts) / jobs[-1])
                alone.append(engine_alone(spec, source))
            # Of a machine whose speed drifts, the engine's runs before and after a job tell most.
            shares = [
                (before + after) / 2 / job
                for before, job, after in zip(alone, jobs, alone[1:], strict=False)
            ]
            found[name] = {
                "rows": pq.read_metadata(source).num_rows,
                "job_s": statistics.median(jobs),
                "engine_alone_s": [round(seconds, 2) for seconds in alone],
                "share": statistics.median(shares),
                "shares": [round(share, 3) for share in shares],
                "labelling": [round(share, 4) for share in labelling],
            }
            shutil.rmtree(folder / "first")
    return found


def alike_batches(data: Path, runs: int) -> dict[str, object]:
    """How many times as fast shards are labelled in batches of texts that are alike."""
    engine = load_engine(SHIPPED_MODELS / "default", cache=settings().engines)
    found = {}
    with tempfile.TemporaryDirectory() as root:
        for name in TEXTS:
            source = drawn(data, name, 100_000, Path(root) / "all.parquet")
            texts = pq.read_table(source)["text"].to_pylist()
            ratios = []
            for run in range(runs):
                shards = [
                    engine.encode([texts[row] for row in np.random.default_rng(seed).choice(
                        len(texts), rows, replace=False)])
                    for seed, rows in enumerate(FIRST_SHARDS, run * len(FIRST_SHARDS))
                ]  # fmt: skip
                ways = ((0.0, engine.alike), (engine.alike, 0.0))[run % 2]
                seconds = {alike: labelled_in_s(engine, shards, alike) for alike in ways}
                ratios.append(seconds.pop(0.0) / seconds.popitem()[1])
            found[name] = {
                "times_as_fast": statistics.median(ratios),
                "ratios": [round(ratio, 3) for ratio in ratios],
            }
    return found


def labelled_in_s(engine: Engine, shards: Sequence[Encoded], alike: float) -> float:
    """Seconds of an engine for shards, one after the other."""
    usual, engine.alike = engine.alike, alike
    started = time.perf_counter()
    for encoded in shards:
        engine.label_encoded(encoded, lambda done: None)
    engine.alike = usual
    return time.perf_counter() - started


def timed_with(url: str, source: Path, count: int, *options: str, **environment: str) -> float:
    """Seconds of a job from first claim to last completion on ``count`` fresh, warmed workers."""
    module = "simulated" if "MTL_SIMULATED_TOKENS_PER_S" in environment else "worker"
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root)
        path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
        workers = [
            Worker(url, folder, module, PYTHONPATH=path, **environment).start()
            for _ in range(count)
        ]
        try:
            warm = folder / "warm.txt"
            write_sentences(warm, 400 * count)
            # Small shards, so that each worker has some and loads its model.
            workers[0].label(warm, folder / "warm", "--shard-rows", "20", wait=True)
            workers[0].label(source, folder / "out", *options, wait=True)
            return span_of(url, folder / "out")
        finally:
            for worker in workers:
                worker.stop()


def worker_scaling(url: str, data: Path, rows: int, runs: int) -> dict[str, object]:
    """Two real workers of one core each against one."""
    with tempfile.TemporaryDirectory() as root:
        source = drawn(data, "AG News", rows, Path(root) / "in.parquet")
        pairs = [
            [timed_with(url, source, n, "--shard-rows", "128", MTL_THREADS="1") for n in (1, 2)]
            for _ in range(runs)
        ]
    return {
        "one_worker_s": statistics.median(pair[0] for pair in pairs),
        "two_workers_s": statistics.median(pair[1] for pair in pairs),
        "ratio": statistics.median(pair[0] / pair[1] for pair in pairs),
    }


def simulated_scaling(url: str) -> dict[str, object]:
    """1 to 16 workers whose engine only waits: the queue is the only limit."""
    with tempfile.TemporaryDirectory() as root:
        made = Path(root) / "made.txt"
        write_sentences(made, 64_000)
        simulated = {
            count: timed_with(
                url, made, count, "--shard-rows", "250", MTL_SIMULATED_TOKENS_PER_S="5000"
            )
            for count in (1, 2, 4, 8, 16)
        }
    return {
        "seconds": simulated,
        "efficiency": {n: simulated[1] / (n * s) for n, s in simulated.items()},
    }


class PeakMemory:
    """Peak resident memory of processes, looked at 20 times a second."""

    def __init__(self, pid: int) -> None:
        self.process, self.peak, self._over = psutil.Process(pid), 0, threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        while not self._over.wait(0.05):
            try:
                family = [self.process, *self.process.children(recursive=True)]
                self.peak = max(self.peak, *(p.memory_info().rss for p in family))
            except psutil.Error:
                continue

    def stop(self) -> float:
        """Megabytes of the largest process."""
        self._over.set()
        self._thread.join()
        return self.peak / 2**20


def memory(url: str) -> dict[str, object]:
    """Peak memory of the largest process of submitter and worker, by rows."""
    found: dict[str, object] = {}
    path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    for rows in (10_000, 100_000, 1_000_000):
        with tempfile.TemporaryDirectory() as root:
            folder = Path(root)
            source = folder / "in.txt"
            write_sentences(source, rows)
            simulated = {"PYTHONPATH": path, "MTL_SIMULATED_TOKENS_PER_S": "0"}
            with Worker(url, folder, "simulated", **simulated) as worker:
                of_worker = PeakMemory(worker.process.pid)
                started = time.perf_counter()
                submit = subprocess.Popen(
                    [sys.executable, "-m", "jobs", "label", source, "-o", folder / "out", "-q"],
                    env=worker.environment, stdout=subprocess.DEVNULL,
                )  # fmt: skip
                of_submit = PeakMemory(submit.pid)
                assert submit.wait() == 0
                found[str(rows)] = {
                    "submit_mb": round(of_submit.stop(), 1),
                    "worker_mb": round(of_worker.stop(), 1),
                    "seconds": round(time.perf_counter() - started, 1),
                }
    return found


def first_label(runs: int) -> dict[str, float]:
    """Seconds from the command's start to its first part, embedded, model exported before."""
    taken = []
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root)
        environment = {**os.environ, "MTL_ENGINE_DIR": str(folder / "engines")}
        environment.pop("MTL_REDIS_URL", None)
        write_sentences(folder / "in.txt", 20_000)
        for run in range(runs + 1):
            out = folder / f"out{run}"
            # A queue of its own: what the run before left undone would be labelled first.
            environment["MTL_STATE_DIR"] = str(folder / f"state{run}")
            started = time.perf_counter()
            process = subprocess.Popen(
                [sys.executable, "-m", "jobs", "label", folder / "in.txt", "-o", out, "-q"],
                env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            )  # fmt: skip
            while not list(out.glob("part-*.parquet")) and process.poll() is None:
                time.sleep(0.02)
            if run:  # the first one exports the model
                taken.append(time.perf_counter() - started)
            process.terminate()
            process.wait()
    return {"median_s": statistics.median(taken), "max_s": max(taken)}


def main() -> None:
    """Measure and print one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "parts",
        nargs="*",
        default=["engine", "batches", "workers", "simulated", "memory", "first"],
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--rows", type=int, default=4000)
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    report: dict[str, object] = {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "python": platform.python_version(),
        "runs": options.runs,
    }
    with tempfile.TemporaryDirectory() as state, EmbeddedRedis(Path(state)) as server:
        for part in options.parts:
            report[part] = {
                "engine": lambda: engine_share(
                    server.url, options.data, options.rows, options.runs
                ),
                "batches": lambda: alike_batches(options.data, options.runs),
                "workers": lambda: worker_scaling(
                    server.url, options.data, options.rows, options.runs
                ),
                "simulated": lambda: simulated_scaling(server.url),
                "memory": lambda: memory(server.url),
                "first": lambda: first_label(options.runs),
            }[part]()
            print(json.dumps({part: report[part]}), file=sys.stderr)
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
