"""A fast device kept busy: whole jobs on a stand-in that takes a set time and uses no core.

``python benchmarks/device.py --data DIR [--rates 2000 5000 8000] [--runs 5]``

AG News texts go from a file through planner, Redis, worker and Parquet; the engine is that of
:mod:`simulated`, at so many texts a second. The device's share is the time that it needs for the
texts' tokens as a share of the time from the first claim to the last completion; ``busy`` is what
each step of the worker took of that time, and ``cores`` the CPU time of worker and submitter.

Prints JSON.
"""

import argparse
import json
import os
import platform
import shutil
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
from support import Worker, manifest_of
from whole_job import span_of

from jobs.embedded import EmbeddedRedis

SECONDS = 30
"""How long a job takes the device, about."""


def texts_file(data: Path, rows: int, target: Path) -> Path:
    """So many AG News texts; where the set is used up, they come again with a number before."""
    texts = pq.read_table(data / "ag_news/train.parquet")["text"].to_pylist()
    found = [f"{row // len(texts)} {texts[row % len(texts)]}" for row in range(rows)]
    pq.write_table(pa.table({"text": found}), target)
    return target


def seconds_of(process: psutil.Process) -> float:
    """CPU seconds of a process and its children so far."""
    family = [process, *process.children(recursive=True)]
    return sum(sum(each.cpu_times()[:2]) for each in family)


def one_rate(url: str, data: Path, rate: int, runs: int, options: list[str]) -> dict[str, object]:
    """Shares of a device that labels ``rate`` texts a second, medians over the runs."""
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root)
        source = texts_file(data, SECONDS * rate, folder / "in.parquet")
        tokens_per_text = 54.0
        environment = {
            "PYTHONPATH": os.pathsep.join(
                [str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
            ),
            "MTL_SIMULATED_TOKENS_PER_S": str(rate * tokens_per_text),
        }
        shares, spans, busy, cores = [], [], [], []
        with Worker(url, folder, "simulated", **environment) as worker:
            process = psutil.Process(worker.process.pid)
            for _ in range(runs):
                shutil.rmtree(folder / "out", ignore_errors=True)
                before, own = seconds_of(process), os.times().children_user
                started = time.perf_counter()
                worker.label(source, folder / "out", *options, wait=True)
                wall = time.perf_counter() - started
                manifest, span = manifest_of(folder / "out"), span_of(url, folder / "out")
                shares.append(manifest["tokens"] / (rate * tokens_per_text) / span)
                spans.append(span)
                busy.append(
                    {
                        step: sum(part["seconds"][step] for part in manifest["parts"]) / span
                        for step in ("load", "label", "write")
                    }
                )
                submitted = os.times().children_user - own
                cores.append((seconds_of(process) - before + submitted) / wall)
        return {
            "texts_per_s": rate,
            "rows": manifest["rows"]["labelled"],
            "parts": len(manifest["parts"]),
            "share": round(statistics.median(shares), 3),
            "shares": [round(share, 3) for share in shares],
            "span_s": round(statistics.median(spans), 2),
            "busy": {
                step: round(statistics.median(each[step] for each in busy), 2) for step in busy[0]
            },
            "cores": round(statistics.median(cores), 2),
        }


def main() -> None:
    """Measure and print one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--rates", type=int, nargs="+", default=[2000, 5000, 8000, 12000])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--shard-tokens", type=int, default=None)
    options = parser.parse_args()
    sizes = [] if options.shard_tokens is None else ["--shard-tokens", str(options.shard_tokens)]
    sizes += ["--shard-rows", str(options.shard_tokens // 16)] if sizes else []
    found = []
    with tempfile.TemporaryDirectory() as state, EmbeddedRedis(Path(state)) as server:
        for rate in options.rates:
            found.append(one_rate(server.url, options.data, rate, options.runs, sizes))
    report = {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "python": platform.python_version(),
        "numpy": np.__version__,
        "runs": options.runs,
        "devices": found,
    }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
