"""The labelling engine with one model against another, interleaved in one run.

``python benchmarks/models.py MODEL MODEL … --data DIR [--rows 1500] [--runs 5]``

Models are names or folders; the first is what the others are compared with. Each run labels the
same AG News test texts and SST-2 training phrases by every model in turn, on the engine that
``mtl label`` takes here. Prints JSON: rows a second (median), and the median of the ratios run by
run.
"""

import argparse
import json
import platform
import statistics
import tempfile
import time
from pathlib import Path

import pyarrow.parquet as pq
import torch

from jobs.settings import settings
from mtl_core.engine.load import load_engine
from mtl_core.model.registry import find_model

TEXTS = {"AG News test": ("ag_news/test", "text"), "SST-2 phrases": ("sst2/train", "sentence")}


def main() -> None:
    """Measure and print JSON."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("models", nargs="+")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--rows", type=int, default=1500)
    parser.add_argument("--runs", type=int, default=5)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as cache:
        engines = {
            name: load_engine(
                find_model(name, settings().models, settings().model_copies).folder,
                cache=Path(cache),
            )
            for name in given.models
        }
        for name, (file, column) in TEXTS.items():
            table = pq.read_table(given.data / f"{file}.parquet", columns=[column])
            texts = table.slice(0, given.rows)[column].to_pylist()
            rates: dict[str, list[float]] = {model: [] for model in engines}
            for run in range(given.runs + 1):
                for model, engine in engines.items():
                    begun = time.perf_counter()
                    engine.label(texts, lambda done: None)
                    if run:  # the first warms up
                        rates[model].append(len(texts) / (time.perf_counter() - begun))
            first = rates[given.models[0]]
            print(json.dumps({
                "texts": name, "rows": len(texts), "runs": given.runs,
                "rows_per_second": {m: round(statistics.median(r), 1) for m, r in rates.items()},
                "ratio": {
                    m: round(statistics.median(a / b for a, b in zip(r, first, strict=True)), 2)
                    for m, r in rates.items()
                },
                "engine": next(iter(engines.values())).name,
                "precision": next(iter(engines.values())).precision,
                "cpu": platform.processor() or platform.machine(),
                "features": {k: v for k, v in torch.cpu.get_capabilities().items() if v is True},
            }))  # fmt: skip


if __name__ == "__main__":
    main()
