"""``mtl duplicates`` at a million rows: time, memory, and near pairs found against an exact search.

``python benchmarks/duplicates.py --output OUT [--rows 1000000] [--heap 0]``: the embeddings of a
finished output, mixed by pairs and moved at random, a tenth of them near copies of others, cosines
0.94 to 1; ``--heap`` makes that share of all rows near-identical. Of 2,000 drawn rows all near
pairs are found exactly, and counted as found if they are in one group. Prints JSON.
"""

import argparse
import json
import os
import resource
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from jobs.vectors.copies.links import components
from jobs.vectors.copies.stored import read_vectors, vectors_manifest
from mtl_core.storage.folder import Folder

BLOCK = 20_000
DRAWN = 2000


def unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def made(base: NDArray[np.float32], rows: int, heap: float) -> NDArray[np.float16]:
    """Vectors like real ones, float16 [N, E]."""
    draw = np.random.default_rng(0)
    found = np.empty((rows, base.shape[1]), np.float16)
    noise = base.shape[1] ** -0.5

    def aside(count: int) -> NDArray[np.float32]:
        return draw.standard_normal((count, base.shape[1]), dtype=np.float32) * noise

    for start in range(0, rows, BLOCK):
        count = min(BLOCK, rows - start)
        one, other = (base[draw.integers(0, len(base), count)] for _ in range(2))
        weight = draw.uniform(0.3, 1, (count, 1)).astype(np.float32)
        found[start : start + count] = unit(one + weight * other + 0.5 * aside(count))
    order = draw.permutation(rows)
    for start in range(0, rows // 10, BLOCK):
        source = order[start : min(start + BLOCK, rows // 10)]
        target = order[rows // 2 :][start : start + len(source)]
        vectors = found[source].astype(np.float32)
        cosine = draw.uniform(0.94, 1, (len(source), 1)).astype(np.float32)
        move = aside(len(source))
        move = unit(move - (move * vectors).sum(axis=1, keepdims=True) * vectors)
        found[target] = cosine * vectors + np.sqrt(1 - cosine**2) * move
    for start in range(0, int(heap * rows), BLOCK):
        count = min(BLOCK, int(heap * rows) - start)
        found[order[start : start + count]] = unit(base[:1] + 0.15 * aside(count))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--heap", type=float, default=0.0)
    parser.add_argument("--threshold", type=float, default=0.95)
    given = parser.parse_args()
    place = Folder(given.output)
    base = read_vectors(place, vectors_manifest(place)).units.astype(np.float32)
    units = made(base, given.rows, given.heap)
    started = time.monotonic()
    groups = components(units, given.threshold, np.zeros((2, 0), np.int64))
    seconds = time.monotonic() - started
    rows = np.random.default_rng(1).choice(given.rows, min(DRAWN, given.rows), replace=False)
    own, hits, pairs = units[rows].astype(np.float32), 0, 0
    for start in range(0, given.rows, BLOCK):
        block = units[start : start + BLOCK].astype(np.float32)
        one, other = np.nonzero(own @ block.T >= given.threshold)
        apart = rows[one] != other + start
        pairs += int(apart.sum())
        hits += int((groups[rows[one]] == groups[other + start])[apart].sum())
    record = {
        "rows": given.rows,
        "heap": given.heap,
        "seconds": round(seconds, 1),
        "peak_gib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2),
        "pairs": pairs,
        "recall": hits / max(1, pairs),
        "largest_group": int(np.bincount(groups).max()),
        "load_average": os.getloadavg()[0],
    }
    print(json.dumps(record))


if __name__ == "__main__":
    main()
