"""``mtl drift``: false alarms, and how often a few foreign rows are found.

``python benchmarks/drift.py --output AG_NEWS --foreign OTHER [--rows 5000] [--trials 50]``: two
finished outputs of one model. Each trial draws twice ``--rows`` rows of the first, halves them, and
with ``--share`` above 0, puts that share of rows of the second into one half. Prints JSON.
"""

import argparse
import json
import os
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from jobs.vectors.copies.stored import vectors_manifest
from jobs.vectors.drift import drift_of
from jobs.vectors.drift_sample import draw_sample, without_copies
from mtl_core.storage.folder import Folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--foreign", type=Path, required=True)
    parser.add_argument("--rows", type=int, default=5000)
    parser.add_argument("--share", type=float, default=0.05)
    parser.add_argument("--trials", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    places = Folder(given.output), Folder(given.foreign)
    manifests = vectors_manifest(places[0]), vectors_manifest(places[1])
    pool = draw_sample(places, manifests, 10**9, None, 0)
    own, foreign = np.flatnonzero(~pool.new), np.flatnonzero(pool.new)
    found, seconds = [], []
    for trial in range(given.trials):
        draw = np.random.default_rng(given.seed + trial)
        rows = draw.permutation(own)[: 2 * given.rows]
        half = len(rows) // 2
        count = round(given.share * half)
        rows[len(rows) - count :] = draw.choice(foreign, count, replace=False)
        sides = np.arange(len(rows)) >= half
        started = time.monotonic()
        sample = replace(pool.take(rows), new=sides)
        kept = without_copies(sample, manifests[0].embedding, trial)
        found.append(drift_of(kept, seed=given.seed + trial))
        seconds.append(time.monotonic() - started)
    record = {
        "rows_a_side": half,
        "share": given.share,
        "trials": given.trials,
        **{f"found_at_{alpha}": sum(f.p <= alpha for f in found) for alpha in (0.01, 0.05)},
        "auc": float(np.median([f.auc for f in found])),
        "alone_at_0.05": {
            name: sum(f.tests[name] <= 0.05 for f in found) for name in found[0].tests
        },
        "seconds": float(np.median(seconds)),
        "load_average": os.getloadavg()[0],
    }
    print(json.dumps(record))


if __name__ == "__main__":
    main()
