"""What a lower precision changes on the official splits: labels, accuracy, angles.

``python benchmarks/precision.py --data DIR [--model DIR] [--engine openvino]``

Each precision labels every row of the tasks' evaluation splits and is compared with float32 by the
same engine. int8 is calibrated as ``mtl label --precision int8`` does: on 300 texts spread over the
first 2,048. Prints JSON and a Markdown table.
"""

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np
import openvino

from mtl_core.data.splits import load_split
from mtl_core.engine.base import Labelled
from mtl_core.engine.load import load_engine
from mtl_core.engine.quantise import CALIBRATION_TEXTS
from mtl_core.model.registry import SHIPPED_MODELS
from mtl_core.tasks import DEFAULT_TASKS

FIRST_ROWS = 2048
PRECISIONS = ("float32", "bfloat16", "int8")


def compare(model: Path, engine: str, data: Path, cache: Path) -> list[dict[str, object]]:
    """One record for each task and precision."""
    records = []
    for task in DEFAULT_TASKS:
        assert task.source is not None
        split = load_split(task, task.source.evaluation_split, data)
        first = split.texts[:FIRST_ROWS]
        sample = tuple(first[:: max(1, len(first) // CALIBRATION_TEXTS)][:CALIBRATION_TEXTS])
        exact: Labelled | None = None
        for precision in PRECISIONS:
            if precision == "int8" and engine != "openvino":
                continue
            runner = load_engine(
                model,
                engine,  # type: ignore[arg-type]
                precision,
                cache=cache,
                calibration=sample if precision == "int8" else (),
            )
            found = runner.label(split.texts, lambda done: None)
            exact = exact or found
            own, reference = (
                next(a.classes for a in each.labels if a.task.name == task.name)
                for each in (found, exact)
            )
            cosines = (found.embeddings * exact.embeddings).sum(axis=1)
            records.append(
                {
                    "task": task.name,
                    "precision": precision,
                    "rows": len(split),
                    "same_label": float((own == reference).mean()),
                    "accuracy": float((own == np.asarray(split.labels)).mean()),
                    "cosine_mean": float(cosines.mean()),
                    "cosine_least": float(cosines.min()),
                }
            )
    return records


def main() -> None:
    """Measure, print JSON and a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", type=Path, default=SHIPPED_MODELS / "default")
    parser.add_argument("--engine", choices=("openvino", "torch"), default="openvino")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as cache:
        records = compare(options.model, options.engine, options.data, Path(cache))
    print(json.dumps({"openvino": openvino.__version__, "records": records}, indent=2))
    print("| task | precision | rows | same label | accuracy | cosine, mean / least |")
    print("|---|---|---|---|---|---|")
    for each in records:
        print(
            f"| {each['task']} | {each['precision']} | {each['rows']:,} "
            f"| {each['same_label']:.2%} | {each['accuracy']:.4f} "
            f"| {each['cosine_mean']:.5f} / {each['cosine_least']:.4f} |"
        )


if __name__ == "__main__":
    main()
