"""What several benchmarks build on: made sentences and a warmed-up worker process."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

WORDS = ("a", "dull", "superb", "film", "about", "the", "war", "goal", "bank", "robot", "and", "us")


def write_sentences(path: Path, rows: int) -> None:
    """Short made sentences, about as long as SST-2's phrases."""
    with path.open("w") as stream:
        for row in range(rows):
            words = (WORDS[(row * 7 + word * word) % len(WORDS)] for word in range(3 + row % 15))
            stream.write(f"{' '.join(words)} {row}\n")


def timed(calls: Mapping[str, Callable[[], object]], runs: int) -> dict[str, list[float]]:
    """Seconds of each call, all in turn, so many times after a first round that warms up."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for run in range(runs + 1):
        for name, call in calls.items():
            started = time.perf_counter()
            call()
            if run:
                seconds[name].append(time.perf_counter() - started)
    return seconds


class Worker:
    """One worker process, warmed up, as a context."""

    def __init__(self, url: str, folder: Path, module: str = "worker", **environment: str) -> None:
        self.environment = {**os.environ, "MTL_REDIS_URL": url, **environment}
        self.folder, self.module = folder, module

    def start(self) -> "Worker":
        """Start it; it loads its model with the first shard."""
        with (self.folder / "worker.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", self.module],
                env=self.environment, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        return self

    def __enter__(self) -> "Worker":
        self.start()
        warm = self.folder / "warm.txt"
        write_sentences(warm, 100)
        self.label(warm, self.folder / "warm", wait=True)
        return self

    def label(self, source: Path, output: Path, *options: str, wait: bool) -> None:
        """Submit a job; with ``wait``, until it is done."""
        command = [sys.executable, "-m", "jobs", "label", source, "-o", output, "-q", *options]
        subprocess.run(
            [*map(str, command), *([] if wait else ["--detach"])],
            check=True, capture_output=True, env=self.environment,
        )  # fmt: skip

    def stop(self) -> None:
        """Let it leave by itself."""
        self.process.terminate()
        self.process.wait()

    def __exit__(self, *_: object) -> None:
        self.stop()


def manifest_of(output: Path) -> dict[str, Any]:
    """A finished job's manifest."""
    found: dict[str, Any] = json.loads((output / "_manifest.json").read_text())
    return found
