"""Specs for tests that need some job and not what it does."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jobs.input.files import fingerprint
from jobs.input.folders import Located
from jobs.specs import LabelSpec, TrainSpec

TRAIN_SPEC = TrainSpec(
    name="m",
    output="/nowhere/m",
    data_dir=None,
    preset="recommended",
    scenario="frozen",
    settings={},
    backbone="b",
    tasks=({"name": "topic", "labels": ["a", "b"]},),
    command="mtl train",
)


def spec_for(path: Path, output: Path, **changes: object) -> LabelSpec:
    fields = {
        "inputs": (fingerprint(Located(path)),),
        "text_columns": ("text",),
        "text_column": "text",
        "output": str(output),
        "model": "default",
        "model_dir": "/nowhere",
        "model_sha256": "0",
        "backbone_sha256": "0",
        "tasks": (("topic", ("a", "b")),),
        "embedding_size": 4,
        "shard_rows": 10,
        "shard_tokens": 10_000,
        **changes,
    }
    return LabelSpec.model_validate(fields)


def manifest_for(
    parts: Sequence[dict[str, Any]], tasks: Mapping[str, Sequence[str]], **changes: object
) -> dict[str, Any]:
    """A manifest; each of the parts says what the test is about, the rest is made up."""
    made = {"rows": 1, "sha256": "0", "worker": "w", "engine": "made", "precision": "float32"}
    entries = [{"shard": f"{n:05d}", **made, **part} for n, part in enumerate(parts)]
    rows = sum(entry["rows"] for entry in entries)
    return {
        "job": "label-x",
        "state": "done",
        "rows": {"total": rows, "labelled": rows, "errors": 0, "truncated": 0},
        "tokens": 10 * rows,
        "inputs": [
            {"path": "in.csv", "format": "csv", "compression": "none", "bytes": 1, "sha256": "0"}
        ],
        "text_column": "text",
        "model": {"name": "default", "sha256": "0", "backbone_sha256": "0", "tasks": tasks},
        "embedding": "none",
        "engines": [],
        "schema": [],
        "parts": entries,
        "errors": [],
        "attempts": {},
        "created": "2026-01-01T00:00:00Z",
        "finished": "2026-01-01T00:00:00Z",
        "seconds": 3.0,
        "software": {},
        **changes,
    }


def lines(path: Path, texts: Sequence[str]) -> Path:
    path.write_text("".join(f"{text}\n" for text in texts))
    return path
