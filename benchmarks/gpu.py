"""The engine on one GPU against sentence-transformers on the same card, interleaved in one run.

``python benchmarks/gpu.py [--data DIR] [--rows 30000] [--runs 5] [--out FOLDER]``

Each way of :mod:`mtl_core.engine.on_gpu` and ``torch.compile`` on ready tokens ("alone"), and from
a Parquet file of texts to one of labels and vectors; sentence-transformers in half precision with
each of several batch sizes, so that its best counts. Labels are compared with float32's. Writes
``gpu.md``, ``gpu.json`` and ``profile.txt``. On a machine without a GPU it rehearses on the CPU
(with ``--rows 40``, say): the figures then say nothing, and the report says so.
"""

import argparse
import json
import os
import platform
import statistics
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from label import Way, flop_of, labelling, made_texts, product_limit, vectors_only
from support import timed

from mtl_core.config import DEFAULT_BACKBONE
from mtl_core.engine import on_gpu
from mtl_core.engine.base import Encoded, Labelled
from mtl_core.engine.packed import pack
from mtl_core.engine.torch_engine import TorchEngine
from mtl_core.model.backbones import resolve_backbone
from mtl_core.model.network import load_model
from mtl_core.model.precision import best_device
from mtl_core.model.registry import SHIPPED_MODELS
from mtl_core.token_ids import TokenIds

DEVICE = best_device()
ON_GPU = DEVICE.type == "cuda"
PRECISIONS = ("bfloat16", "float16") if ON_GPU else ("float32",)
PEER_BATCHES = (128, 512, 2048) if ON_GPU else (32,)


class Compiled(on_gpu.PackedRun):
    """Packed texts filled up to one shape, by kernels that torch.compile fuses for it."""

    def __init__(self, graph: Any, device: torch.device, tokens: int) -> None:
        super().__init__(graph, device)
        self.tokens, self.texts = tokens, tokens // on_gpu.TEXT_TOKENS
        self.run = torch.compile(self.graph, dynamic=False)

    def __call__(self, batch: TokenIds) -> Sequence[torch.Tensor]:
        if len(batch) > self.texts:
            return super().__call__(batch)
        filled = pack(batch, self.tokens, self.texts).tensors
        found = self.run(*(on_gpu.on_device(each, self.device) for each in filled))
        return [each[: len(batch)] for each in found]


def engines() -> Iterator[tuple[str, TorchEngine]]:
    """Ours, in each precision: what is chosen by itself, then each way."""
    default = SHIPPED_MODELS / "default"
    yield "float32", TorchEngine(load_model(default), "float32")
    for precision in PRECISIONS:
        chosen = TorchEngine(load_model(default), precision)
        yield f"{chosen.identity}, {chosen.batch_tokens}: as chosen", chosen
        for number in range(len(ways(chosen)) if ON_GPU else 0):
            engine = TorchEngine(load_model(default), precision)
            way = ways(engine)[number]
            try:
                engine.take(way)
                engine.label(["a text to try it with"], lambda done: None)
            except Exception as error:  # said, and the others go on
                print(f"{precision}, {way.name}: {str(error).splitlines()[0]}")
                continue
            yield f"{engine.identity}, {engine.batch_tokens}", engine


def ways(engine: TorchEngine) -> list[on_gpu.Way]:
    """Those that an engine chooses from, and one more."""
    tokens = on_gpu.CACHED_TOKENS
    fused = on_gpu.Way("compiled", tokens, 4, partial(Compiled, engine._graph, DEVICE, tokens))
    return [*on_gpu.ways(engine._graph, engine.precision, engine._padded, DEVICE), fused]


def peers() -> Iterator[tuple[str, Way]]:
    """sentence-transformers on the same backbone, in half precision, by batch size."""
    from sentence_transformers import SentenceTransformer

    folder = str(resolve_backbone(DEFAULT_BACKBONE).folder)
    for precision in PRECISIONS:
        options: Any = {"model_kwargs": {"dtype": getattr(torch, precision)}}
        model = SentenceTransformer(folder, device=DEVICE.type, **options)
        for size in PEER_BATCHES:
            yield (
                f"sentence-transformers, {precision}, batches of {size}",
                vectors_only(partial(_encode, model, size)),
            )


def _encode(model: Any, size: int, texts: Sequence[str]) -> np.ndarray:
    vectors: np.ndarray = model.encode(list(texts), batch_size=size)
    return vectors.astype(np.float32)


def same_labels(found: Labelled, expected: Labelled) -> dict[str, float]:
    """By task, the share of texts with the same label; and the least cosine."""
    shares = {
        one.task.name: float((one.classes == other.classes).mean())
        for one, other in zip(found.labels, expected.labels, strict=True)
    }
    cosines = (found.embeddings * expected.embeddings).sum(axis=1)
    return {**shares, "least_cosine": float(cosines.min())}


def profile(engine: TorchEngine, encoded: Encoded) -> str:
    """Where the time of one call goes, by kernel or operation."""
    kinds = [torch.profiler.ProfilerActivity.CPU]
    kinds += [torch.profiler.ProfilerActivity.CUDA] if ON_GPU else []
    with torch.profiler.profile(activities=kinds) as found:
        engine.label_encoded(encoded, lambda done: None)
    order = "cuda_time_total" if ON_GPU else "cpu_time_total"
    return str(found.key_averages().table(sort_by=order, row_limit=25))


def machine() -> dict[str, Any]:
    """What the figures depend on."""
    names = ("torch", "transformers", "sentence-transformers", "tokenizers", "pyarrow")
    facts: dict[str, Any] = {
        "device": "the CPU, a rehearsal: these figures say nothing",
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        **{name: version(name) for name in names},
    }
    if ON_GPU:
        card = torch.cuda.get_device_properties(0)
        facts |= {
            "device": card.name,
            "memory_gib": round(card.total_memory / 2**30, 1),
            "capability": f"{card.major}.{card.minor}",
            "cuda": torch.version.cuda,
        }
    for name in ("bfloat16", "float16", "float32") if ON_GPU else ("float32",):
        for tokens in (on_gpu.BATCH_TOKENS, on_gpu.CACHED_TOKENS):
            rate = product_limit(getattr(torch, name), DEVICE.type, tokens if ON_GPU else 1024)
            facts[f"products_{name}_{tokens}_tflops"] = round(rate / 1e12, 2)
    return facts


def texts_of(data: Path | None, rows: int) -> list[str]:
    """AG News' test texts, as often as needed; made ones without the data."""
    if data is None:
        return made_texts(rows, 54)
    texts = pq.read_table(data / "ag_news/test.parquet")["text"].to_pylist()
    return [texts[row % len(texts)] for row in range(rows)]


def measure(texts: list[str], runs: int, out: Path) -> None:
    """Measure all ways on these texts, and write the report; rates are medians."""
    ours = dict(engines())
    first = next(iter(ours.values()))
    encoded = first.encode(texts)
    lengths = encoded.ids.lengths
    flop, facts = flop_of(lengths), machine()
    limit = max(v for k, v in facts.items() if k.endswith("tflops") and PRECISIONS[0] in k)
    expected = first.label_encoded(encoded, lambda done: None)
    answers = {
        name: same_labels(engine.label_encoded(encoded, lambda done: None), expected)
        for name, engine in ours.items()
    }
    alone: dict[str, Callable[[], object]] = {
        f"{name}: alone": partial(engine.label_encoded, encoded, lambda done: None)
        for name, engine in ours.items()
    }
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "in.parquet"
        pq.write_table(pa.table({"text": texts}), source)
        whole = {name: labelling(engine) for name, engine in ours.items()} | dict(peers())
        to_files: dict[str, Callable[[], object]] = {
            name: partial(way, source, Path(folder) / "out.parquet") for name, way in whole.items()
        }
        seconds = timed(alone | to_files, runs)
    rates = {
        name: {
            "texts_per_s": len(texts) / statistics.median(taken),
            "tokens_per_s": int(lengths.sum()) / statistics.median(taken),
            "of_products": flop / statistics.median(taken) / 1e12 / limit,
            "seconds": [round(each, 4) for each in taken],
        }
        for name, taken in seconds.items()
    }
    best = max(
        rates[name]["texts_per_s"] for name in rates if name.startswith("sentence-transformers")
    )
    for each in rates.values():
        each["times_sentence_transformers_best"] = each["texts_per_s"] / best
    report = {
        "machine": facts,
        "texts": len(texts),
        "tokens_a_text": round(float(lengths.mean()), 1),
        "runs": runs,
        "rates": rates,
        "labels_as_float32": answers,
    }
    text = table(report)
    (out / "gpu.md").write_text(text, encoding="utf-8")
    (out / "gpu.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print(text)
    (out / "profile.txt").write_text(profile(list(ours.values())[1], encoded))


def table(report: dict[str, Any]) -> str:
    """The report as Markdown."""
    facts = ", ".join(f"{name} {value}" for name, value in report["machine"].items())
    lines = [
        f"{facts}. {report['texts']:,} texts of {report['tokens_a_text']} tokens; medians of "
        f"{report['runs']} runs, all ways in turn.",
        "",
        f"| way | texts/s | tokens/s | of the {PRECISIONS[0]} products "
        "| times sentence-transformers at its best |",
        "|---|---|---|---|---|",
    ]
    for name, each in report["rates"].items():
        lines.append(
            f"| {name} | {each['texts_per_s']:,.0f} | {each['tokens_per_s']:,.0f} "
            f"| {each['of_products']:.0%} | {each['times_sentence_transformers_best']:.2f} |"
        )
    lines += ["", "| way | same labels as float32 | least cosine |", "|---|---|---|"]
    for name, found in report["labels_as_float32"].items():
        shares = ", ".join(
            f"{key} {value:.2%}" for key, value in found.items() if key != "least_cosine"
        )
        lines.append(f"| {name} | {shares} | {found['least_cosine']:.5f} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure and write the report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--rows", type=int, default=30_000)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path())
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    measure(texts_of(options.data, options.rows), options.runs, options.out)


if __name__ == "__main__":
    main()
