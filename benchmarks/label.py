"""Labelling against other ways to the same vectors, interleaved in one run.

``python benchmarks/label.py [--data DIR] [--rows 1500] [--runs 5] [--peers PYTHON] [--json FILE]
[--only REGEX]``

Every way reads the same Parquet file, and writes a Parquet file with its vectors; models are loaded
and warmed before. Ours also labels both tasks. Prints a Markdown table and JSON for AG News' test
texts and SST-2's training phrases (made texts of the same lengths without --data): rows a second
(median), run by run the median ratio to the default of sentence-transformers, and the share of the
machine's own rate of matrix products (bf16 where the chip has it, else fp32). ``--peers``: the
Python of an environment with ``peers.txt`` (``make bench-peers``), for the ways whose dependencies
are not ours. To be held to what a processor without bf16 can do:
``ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 … --only 'default|fp32'``.
"""

import argparse
import atexit
import json
import os
import platform
import re
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from support import timed
from torch.nn import functional as F

from mtl_core.config import DEFAULT_BACKBONE, LabelPrecision
from mtl_core.engine.base import Engine
from mtl_core.engine.load import load_engine
from mtl_core.engine.torch_engine import TorchEngine
from mtl_core.model.backbones import resolve_backbone
from mtl_core.model.network import load_model
from mtl_core.model.precision import supports_bfloat16
from mtl_core.model.registry import SHIPPED_MODELS
from mtl_core.model.tokenizer import load_tokenizer
from mtl_core.storage.parquet import dictionary_column, embedding_columns, write_table

Embed = Callable[[Sequence[str]], np.ndarray]
Way = Callable[[Path, Path], None]
BASELINE = "sentence-transformers, default"
PEERS = ("sentence-transformers, openvino", "infinity_emb, bf16")
# Floating-point operations of one token in MiniLM's matrix products: 6 layers of 4 × 384² +
# 2 × 384 × 1536 weights, a multiplication and an addition each; and for each token of its text, 384
# in the scores of attention and 384 in what they weight (as Chowdhery et al. 2022 count them).
FLOP_A_TOKEN = 6 * (4 * 384**2 + 2 * 384 * 1536) * 2
FLOP_A_TOKEN_AND_TOKEN = 6 * (2 * 384) * 2


def vectors_only(embed: Embed) -> Way:
    """A way that reads texts and writes their vectors."""

    def run(source: Path, target: Path) -> None:
        texts = pq.read_table(source)["text"].to_pylist()
        write_table(target, pa.table(embedding_columns(embed(texts), "float32")))

    return run


def labelling(engine: Engine) -> Way:
    """Ours: labels, scores and vectors."""

    def run(source: Path, target: Path) -> None:
        texts = pq.read_table(source)["text"].to_pylist()
        found = engine.label(texts, lambda done: None)
        columns = embedding_columns(found.embeddings, "float32")
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


def ways(cache: Path, peers: Path | None, only: str) -> dict[str, Way]:
    """All ways whose names match, loaded."""
    default = SHIPPED_MODELS / "default"

    def compiled(precision: LabelPrecision, calibration: tuple[str, ...] = ()) -> Way:
        return labelling(
            load_engine(default, "openvino", precision, cache=cache, calibration=calibration)
        )

    known: dict[str, Callable[[], Way]] = {
        "plain loop (fp32)": plain_loop,
        BASELINE: library,
        "sentence-transformers, bf16": lambda: library(model_kwargs={"dtype": torch.bfloat16}),
        "mtl-batch, torch bf16": lambda: labelling(TorchEngine(load_model(default), "bfloat16")),
        "mtl-batch, openvino fp32": lambda: compiled("float32"),
        "mtl-batch, openvino bf16": lambda: compiled("bfloat16"),
        "mtl-batch, openvino int8": lambda: compiled("int8", tuple(made_texts(300, 54))),
    }
    if peers is not None:
        known |= {name: partial(peer, peers, name) for name in PEERS}
    return {name: load() for name, load in known.items() if re.search(only, name)}


def peer(python: Path, name: str) -> Way:
    """A way in a process and an environment of its own."""
    folder = str(resolve_backbone(DEFAULT_BACKBONE).folder)
    process = subprocess.Popen(
        [python, Path(__file__).with_name("peer.py"), name, folder],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    atexit.register(process.kill)
    assert process.stdin is not None
    assert process.stdout is not None
    asking, answers = process.stdin, process.stdout
    if not (said := answers.readline()):
        raise SystemExit(f"{name} does not start: {python} peer.py '{name}' {folder}")
    print(f"{name}: {said.strip()}")

    def run(source: Path, target: Path) -> None:
        print(source, target, sep="\t", file=asking, flush=True)
        if answers.readline() != "done\n":
            raise SystemExit(f"{name} failed")

    return run


def made_texts(rows: int, tokens: int) -> list[str]:
    """Texts of about so many tokens, of words that the backbone's vocabulary holds whole."""
    words = ["bank", "film", "match", "robot", "war", "goal", "price", "storm", "music", "river"]
    draw = np.random.default_rng(rows)
    lengths = draw.gamma(8, tokens / 8, rows).astype(int) + 1
    return [" ".join(draw.choice(words, length)) for length in lengths]


def products_in() -> torch.dtype:
    """The number format of the matrix products that speeds are compared with."""
    return torch.bfloat16 if supports_bfloat16(torch.device("cpu")) else torch.float32


def product_limit(
    dtype: torch.dtype | None = None, device: str = "cpu", tokens: int = 2048, seconds: float = 0.5
) -> float:
    """A device's matrix products, in FLOP/s, as large as the model's largest: the best of many."""
    left = torch.randn(tokens, 384, dtype=dtype or products_in(), device=device)
    right = torch.randn(384, 1536, dtype=dtype or products_in(), device=device)
    wait = torch.cuda.synchronize if device == "cuda" else lambda: None
    best, until = 0.0, time.perf_counter() + seconds
    while time.perf_counter() < until:
        wait()
        started = time.perf_counter()
        for _ in range(10):
            left @ right
        wait()
        best = max(best, 10 * 2 * tokens * 384 * 1536 / (time.perf_counter() - started))
    return best


def flop_of(lengths: np.ndarray) -> float:
    """Floating-point operations of texts of so many tokens, int64 [N]."""
    return float((FLOP_A_TOKEN * lengths + FLOP_A_TOKEN_AND_TOKEN * lengths**2).sum())


def measure(
    source: Path, made: dict[str, Way], lengths: np.ndarray, runs: int
) -> tuple[dict[str, dict[str, float]], float]:
    """All ways in turn: medians over the runs.

    Args:
        lengths: int [N], tokens of each text.
    Returns:
        of every way rows a second, ratio to the baseline and share of the products' rate, each run
        compared with itself; and the products' rate, FLOP/s.
    """
    limits: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "out.parquet"
        calls = {name: partial(way, source, target) for name, way in made.items()}
        products = {"products": lambda: limits.append(product_limit())}
        seconds = timed({**products, **calls}, runs)
    del seconds["products"], limits[0]  # the first round warmed up
    rows, flop = len(lengths), flop_of(lengths)
    figures = {
        name: {
            "rows_per_s": rows / statistics.median(taken),
            "ratio": statistics.median(
                base / own for base, own in zip(seconds[BASELINE], taken, strict=True)
            ),
            "of_products": statistics.median(
                flop / own / limit for own, limit in zip(taken, limits, strict=True)
            ),
        }
        for name, taken in seconds.items()
    }
    return figures, statistics.median(limits)


TEXTS = {
    "AG News": ("ag_news/test.parquet", "text", 54),
    "SST-2": ("sst2/train.parquet", "sentence", 13),
}
"""File and column of the data folder, and tokens of a text on average."""


def main() -> None:
    """Measure, print a table and JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--rows", type=int, default=1500)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--peers", type=Path)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--only", default="")
    options = parser.parse_args()
    report: dict[str, object] = {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "versions": {
            name: version(name)
            for name in ("torch", "transformers", "sentence-transformers", "openvino")
        },
        "data": "the data sets" if options.data else "made texts",
        "runs": options.runs,
        "products_in": str(products_in()),
    }
    with tempfile.TemporaryDirectory() as folder:
        made = ways(Path(folder) / "engines", options.peers, options.only)
        tokenizer = load_tokenizer(resolve_backbone(DEFAULT_BACKBONE), 256)
        for name, (file, column, length) in TEXTS.items():
            rows = options.rows * TEXTS["AG News"][2] // length  # about as many tokens of each
            if options.data is None:
                texts = made_texts(rows, length)
            else:
                whole = pq.read_table(options.data / file)[column].to_pylist()
                drawn = np.random.default_rng(0).choice(len(whole), rows, replace=False)
                texts = [whole[row] for row in drawn]
            source = Path(folder) / "in.parquet"
            pq.write_table(pa.table({"text": texts}), source)
            lengths = tokenizer(texts).lengths
            figures, limit = measure(source, made, lengths, options.runs)
            report[name] = {
                "rows": rows, "tokens_a_row": float(lengths.mean()),
                "products_gflops": limit / 1e9, "ways": figures,
            }  # fmt: skip
            print(f"\n| {name} | rows/s | times {BASELINE} | of {products_in()} products |")
            print("|---|---|---|---|")
            for way, found in figures.items():
                rate, ratio, share = found.values()
                print(f"| {way} | {rate:,.0f} | {ratio:.2f} | {share:.0%} |")
    text = json.dumps(report, indent=2)
    print(text)
    if options.json:
        options.json.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
