"""``mtl label --append`` with ids, and ``mtl collect`` into a Delta table: seconds and memory.

``python benchmarks/append.py --data DIR [--rows 200000] [--new 50000]``: a worker whose engine does
not compute makes an output with that many AG News texts (repeated, numbered) and drawn unit vectors
of 256 float32. Then the same file, grown by the new rows, is appended with ``--id-column``; then
the output is collected into a Delta table, and once more. Seconds and the greatest resident memory
are those of the whole commands, the worker's apart; ``look`` is what it takes to tell what is new.
Prints JSON.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from relabel import draw_vectors, texts_of
from support import Worker, manifest_of

from jobs.embedded import EmbeddedRedis

LOOK = """
import sys
from jobs.label.append import prepare_append
from jobs.label.request import LabelRequest
from jobs.settings import settings
request = LabelRequest((sys.argv[1],), sys.argv[2], "default", id_column="id")
print(prepare_append(request, settings()).spec.skipped_rows)
"""

# A process of its own, and a small one: Linux counts the memory of the process that starts another
# as the other's, too.
RUN = """
import json, resource, subprocess, sys, time
started = time.monotonic()
code = subprocess.run(sys.argv[1:]).returncode
seconds = round(time.monotonic() - started, 1)
kib = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
print(json.dumps({"seconds": seconds, "mib": kib // 1024}))
sys.exit(code)
"""


def timed(*command: str | Path, **environment: str) -> dict[str, Any]:
    """Run a command: its seconds, and its greatest resident memory in MiB."""
    before = os.getloadavg()[0]
    done = subprocess.run(
        [sys.executable, "-c", RUN, sys.executable, *map(str, command)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise SystemExit(done.stderr)
    *said, figures = done.stdout.strip().splitlines()
    return {**json.loads(figures), "load_average": round(before, 1), "said": said[0]}


def write_rows(path: Path, texts: list[str], rows: int) -> Path:
    """The first rows of the texts, each with an id."""
    ids = [f"id-{row:09}" for row in range(rows)]
    pq.write_table(pa.table({"id": ids, "text": texts[:rows]}), path)
    return path


def measure(data: Path, rows: int, new: int, folder: Path) -> dict[str, object]:
    """Make an output, append to it, and collect it twice."""
    texts = [f"{text} {row}" for row, text in enumerate(texts_of(data, rows + new))]
    first = write_rows(folder / "first.parquet", texts, rows)
    grown = write_rows(folder / "grown.parquet", texts, rows + new)
    out, found = folder / "out", dict[str, object]({"rows": rows, "new": new})
    path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    simulated = {"PYTHONPATH": path, "MTL_SIMULATED_TOKENS_PER_S": "0"}
    append = ("-m", "jobs", "label", grown, "-o", out, "--append", "--id-column", "id")
    with EmbeddedRedis(folder) as redis:
        worker = Worker(redis.url, folder, "simulated", **simulated)
        try:
            worker.start().label(first, out, wait=True)
            draw_vectors(out)
            found["look"] = timed("-c", LOOK, grown, out)
            found["append"] = timed(*append, MTL_REDIS_URL=redis.url)
        finally:
            worker.stop()
    assert manifest_of(out)["rows"]["labelled"] == rows + new
    found["verify"] = timed("-m", "jobs", "verify", out)
    collect = ("-m", "jobs", "collect", out, "-o", folder / "table", "--format", "delta")
    found["delta"], found["delta again"] = timed(*collect), timed(*collect)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--new", type=int, default=50_000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["MTL_STATE_DIR"] = f"{folder}/state"
        print(json.dumps(measure(arguments.data, arguments.rows, arguments.new, Path(folder))))


if __name__ == "__main__":
    main()
