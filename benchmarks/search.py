"""``mtl search`` and ``mtl index``: time, memory, and how many of the nearest rows are found.

``python benchmarks/search.py make --rows 1000000 --form float16 BIG OUT…``: an output of many rows.
Each is a row of the outputs OUT with its label and text, its embedding moved at random (cosine with
where it was: 0.95 in the median).

``python benchmarks/search.py run BIG [--index] [--queries 20]``: searches it, by the whole command
and by a function called again; the truth is a scan in float64 of what is stored. Prints JSON.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from jobs.output.layout import MANIFEST, SUCCESS, read_manifest
from jobs.output.rows import batches, vectors_of
from jobs.vectors.search import embed_texts, open_output, search
from mtl_core.config import Embedding
from mtl_core.storage.folder import Folder
from mtl_core.storage.parquet import (
    EMBEDDING,
    EMBEDDING_SCALE,
    ROW_ID,
    embedding_columns,
    put_table,
)

PART_ROWS = 8192
MOVED = 0.02
"""Standard deviation of what is added to each of the 256 numbers."""
TEXTS = (
    "the film was far too long", "shares fell on Monday", "a hat-trick in the cup final",
    "new chip for phones", "peace talks have begun", "a wonderful performance",
    "oil prices at a record", "the team lost again", "a virus spreads by mail",
    "elections were held on Sunday",
)  # fmt: skip


def make(rows: int, form: Embedding, big: Path, outputs: list[Path]) -> None:
    """Write the output of many rows."""
    manifests = [read_manifest(Folder(out)) for out in outputs]
    first = manifests[0]
    columns = [*first.model.tasks, *(f"{task}_score" for task in first.model.tasks)]
    tables, found = [], []
    for out, manifest in zip(outputs, manifests, strict=True):
        names = [manifest.text_column, *columns]
        for batch in batches(Folder(out), manifest, [*names, EMBEDDING, EMBEDDING_SCALE]):
            found.append(vectors_of(batch, manifest.embedding))
            tables.append(batch.select(names).rename_columns([first.text_column, *columns]))
    source, vectors = pa.concat_tables(tables).combine_chunks(), np.concatenate(found)
    draw, place, parts = np.random.default_rng(0), Folder(big), []
    for number, start in enumerate(range(0, rows, PART_ROWS)):
        count = min(PART_ROWS, rows - start)
        chosen = draw.integers(len(vectors), size=count)
        moved = vectors[chosen]
        moved += MOVED * draw.standard_normal(moved.shape, dtype=np.float32)
        moved /= np.linalg.norm(moved, axis=1, keepdims=True)
        table = source.take(pa.array(chosen))
        table = table.add_column(0, ROW_ID, pa.array(np.arange(start, start + count)))
        for name, column in embedding_columns(moved, form).items():
            table = table.append_column(name, column)
        name = f"part-{number:05d}-a1.parquet"
        written = put_table(place, name, table)
        parts.append({
            **json.loads(first.parts[0].model_dump_json()), "shard": f"{number:05d}", "part": name,
            "rows": count, "bytes": written.bytes, "sha256": written.sha256,
        })  # fmt: skip
    counts = {"total": rows, "labelled": rows, "errors": 0, "truncated": 0}
    manifest = {**first.as_json(), "embedding": form, "rows": counts, "parts": parts, "errors": []}
    manifest["schema"] = [{"name": f.name, "type": str(f.type)} for f in table.schema]
    (big / MANIFEST).write_text(json.dumps(manifest))
    (big / SUCCESS).touch()


def truth(big: Path, queries: NDArray[np.float32], k: int) -> list[set[int]]:
    """The ``row_id`` of the nearest rows by a plain scan."""
    manifest, exact = read_manifest(Folder(big)), queries.astype(np.float64)
    cosines, ids = np.zeros((len(queries), 0)), np.zeros((len(queries), 0), np.int64)
    for batch in batches(Folder(big), manifest, {ROW_ID, EMBEDDING, EMBEDDING_SCALE}):
        vectors = vectors_of(batch, manifest.embedding).astype(np.float64)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        here = np.broadcast_to(batch[ROW_ID].to_numpy(), (len(queries), len(batch)))
        cosines = np.concatenate([cosines, exact @ vectors.T], axis=1)
        ids = np.concatenate([ids, here], axis=1)
        order = np.argsort(-cosines, axis=1)[:, :k]
        cosines = np.take_along_axis(cosines, order, axis=1)
        ids = np.take_along_axis(ids, order, axis=1)
    return [set(row.tolist()) for row in ids]


def command(*arguments: str) -> float:
    """Seconds of a whole command."""
    started = time.monotonic()
    subprocess.run([sys.executable, "-m", "jobs", *arguments], check=True, capture_output=True)
    return time.monotonic() - started


def run(big: Path, index: bool, count: int, k: int = 10) -> dict[str, object]:
    """Search an output of many rows."""
    record: dict[str, object] = {}
    if index:
        record["index_seconds"] = round(command("index", str(big)), 1)
        children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
        record["index_peak_MB"] = children >> 10
        record["index_MB"] = sum(f.stat().st_size for f in (big / "_index").iterdir()) >> 20
    texts = [TEXTS[n % len(TEXTS)] + " " * (n // len(TEXTS)) + str(n) for n in range(count)]
    cold = [command("search", str(big), text) for text in texts[:5]]
    exact = [] if index else ["exact"]
    with open_output(str(big), exact=bool(exact)) as out:
        queries = embed_texts([out], texts)
        search([out], queries[:1], k)
        warm, found = [], []
        for text in texts:
            started = time.monotonic()
            query = embed_texts([out], [text])
            found.append({hit.values[ROW_ID] for hit in search([out], query, k)[0]})
            warm.append(time.monotonic() - started)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    right = truth(big, queries, k)
    manifest = read_manifest(Folder(big))
    return record | {
        "rows": manifest.rows.labelled,
        "form": manifest.embedding,
        "parts_MB": sum(part.bytes for part in manifest.parts) >> 20,
        "cold_s": [round(value, 2) for value in sorted(cold)],
        "warm_s": round(median(warm), 3),
        "warm_worst_s": round(max(warm), 3),
        "peak_MB": peak,
        f"recall@{k}": float(np.mean([len(a & b) / k for a, b in zip(found, right, strict=True)])),
        "queries": count,
        "load_average": os.getloadavg()[0],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    what = parser.add_subparsers(dest="what", required=True)
    making = what.add_parser("make")
    making.add_argument("--rows", type=int, default=1_000_000)
    making.add_argument("--form", default="float16")
    making.add_argument("big", type=Path)
    making.add_argument("outputs", type=Path, nargs="+")
    running = what.add_parser("run")
    running.add_argument("--index", action="store_true")
    running.add_argument("--queries", type=int, default=20)
    running.add_argument("big", type=Path)
    given = parser.parse_args()
    if given.what == "make":
        make(given.rows, given.form, given.big, given.outputs)
    else:
        print(json.dumps(run(given.big, given.index, given.queries)))


if __name__ == "__main__":
    main()
