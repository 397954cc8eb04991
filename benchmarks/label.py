"""Labelling against other ways to the same vectors, interleaved in one run.

``python benchmarks/label.py --data DIR [--rows 1500] [--runs 5]``

Every way reads the same Parquet file, and writes a Parquet file with its vectors; models are loaded
and warmed before. Ours also labels both tasks. Prints JSON and a Markdown table for AG News' test
texts and SST-2's training phrases: rows a second (median) and, run by run, the median ratio to the
default of sentence-transformers.
"""

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch.nn import functional as F

from mtl_core.backbones import resolve_backbone
from mtl_core.checkpoint import load_model
from mtl_core.config import DEFAULT_BACKBONE
from mtl_core.engine import Engine
from mtl_core.engines import load_engine
from mtl_core.parquet import (
    dictionary_column,
    embedding_column,
    write_table,
)
from mtl_core.registry import SHIPPED_MODELS
from mtl_core.torch_engine import TorchEngine

Embed = Callable[[Sequence[str]], np.ndarray]
Way = Callable[[Path, Path], None]
BASELINE = "sentence-transformers, default"


def vectors_only(embed: Embed) -> Way:
    """A way that reads texts and writes their vectors."""

    def run(source: Path, target: Path) -> None:
        texts = pq.read_table(source)["text"].to_pylist()
        write_table(target, pa.table({"embedding": embedding_column(embed(texts), "float32")}))

    return run


def labelling(engine: Engine) -> Way:
    """Ours: labels, scores and vectors."""

    def run(source: Path, target: Path) -> None:
        texts = pq.read_table(source)["text"].to_pylist()
        found = engine.label(texts, lambda done: None)
        columns = {"embedding": embedding_column(found.embeddings, "float32")}
        for answer in found.labels:
            name = answer.task.name
            columns[name] = dictionary_column(answer.classes, answer.task.labels)
            columns[f"{name}_score"] = pa.array(answer.scores)
        write_table(target, pa.table(columns))

    return run


def plain_loop() -> Way:
    """What a notebook does: fp32, batches of 32 in the order they come, padded to the longest."""
    from transformers import AutoModel, AutoTokenizer

    folder = resolve_backbone(DEFAULT_BACKBONE).folder
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModel.from_pretrained(folder).eval()

    def embed(texts: Sequence[str]) -> np.ndarray:
        found = []
        for start in range(0, len(texts), 32):
            batch = tokenizer(
                list(texts[start : start + 32]), padding=True, truncation=True, max_length=256,
                return_tensors="pt",
            )  # fmt: skip
            with torch.no_grad():
                hidden = model(**batch).last_hidden_state
            mask = batch["attention_mask"].unsqueeze(-1).float()
            found.append(F.normalize((hidden * mask).sum(1) / mask.sum(1), dim=-1).numpy())
        return np.concatenate(found)

    return vectors_only(embed)


def library(**options: object) -> Way:
    """sentence-transformers' ``encode`` on the same backbone."""
    from sentence_transformers import SentenceTransformer

    folder = str(resolve_backbone(DEFAULT_BACKBONE).folder)
    model = SentenceTransformer(folder, device="cpu", **options)  # type: ignore[arg-type]
    return vectors_only(lambda texts: model.encode(list(texts)).astype(np.float32))


def ways(cache: Path) -> dict[str, Way]:
    """All ways, loaded."""
    default = SHIPPED_MODELS / "default"
    made: dict[str, Way] = {
        "plain loop (fp32)": plain_loop(),
        BASELINE: library(),
        "sentence-transformers, bf16": library(model_kwargs={"dtype": torch.bfloat16}),
        "mtl-batch, torch bf16": labelling(TorchEngine(load_model(default), "bfloat16")),
        "mtl-batch, openvino fp32": labelling(
            load_engine(default, "openvino", "float32", cache=cache)
        ),
        "mtl-batch, openvino bf16": labelling(
            load_engine(default, "openvino", "bfloat16", cache=cache)
        ),
    }
    try:
        made["sentence-transformers, openvino"] = library(backend="openvino")
    except Exception as error:  # it needs optimum-intel, which may not be there
        print(f"left out: sentence-transformers, openvino ({type(error).__name__})")
    return made


def product_limit(seconds: float = 2.0) -> float:
    """This machine's bf16 matrix products, in FLOP/s, as large as the model's largest."""
    left = torch.randn(2048, 384, dtype=torch.bfloat16)
    right = torch.randn(384, 1536, dtype=torch.bfloat16)
    best, until = 0.0, time.perf_counter() + seconds
    while time.perf_counter() < until:
        started = time.perf_counter()
        for _ in range(10):
            left @ right
        best = max(best, 10 * 2 * 2048 * 384 * 1536 / (time.perf_counter() - started))
    return best


def measure(
    source: Path, made: dict[str, Way], rows: int, runs: int
) -> dict[str, dict[str, float]]:
    """Rows a second and ratio to the baseline of every way, in turn, medians over the runs."""
    seconds: dict[str, list[float]] = {name: [] for name in made}
    with tempfile.TemporaryDirectory() as folder:
        for run in range(runs + 1):
            for name, way in made.items():
                started = time.perf_counter()
                way(source, Path(folder) / "out.parquet")
                if run:  # the first round warms up
                    seconds[name].append(time.perf_counter() - started)
    return {
        name: {
            "rows_per_s": rows / statistics.median(taken),
            "ratio": statistics.median(
                base / own for base, own in zip(seconds[BASELINE], taken, strict=True)
            ),
        }
        for name, taken in seconds.items()
    }


def main() -> None:
    """Measure, print JSON and a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--rows", type=int, default=1500)
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    report: dict[str, object] = {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "versions": {
            name: version(name)
            for name in ("torch", "transformers", "sentence-transformers", "openvino")
        },
        "bf16_product_limit_gflops": product_limit() / 1e9,
        "rows": options.rows,
        "runs": options.runs,
    }
    with tempfile.TemporaryDirectory() as folder:
        made = ways(Path(folder) / "engines")
        for name, file, column in (
            ("AG News", "ag_news/test.parquet", "text"),
            ("SST-2", "sst2/train.parquet", "sentence"),
        ):
            texts = pq.read_table(options.data / file)[column].to_pylist()
            drawn = np.random.default_rng(0).choice(len(texts), options.rows, replace=False)
            source = Path(folder) / "in.parquet"
            pq.write_table(pa.table({"text": [texts[row] for row in drawn]}), source)
            report[name] = figures = measure(source, made, options.rows, options.runs)
            print(f"\n| {name} | rows/s | times {BASELINE} |\n|---|---|---|")
            for way, found in figures.items():
                print(f"| {way} | {found['rows_per_s']:,.0f} | {found['ratio']:.2f} |")
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
