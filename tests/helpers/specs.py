"""Specs for tests that need some job and not what it does."""

from collections.abc import Sequence
from pathlib import Path

from jobs.input.folders import Located
from jobs.input.source import fingerprint
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


def lines(path: Path, texts: Sequence[str]) -> Path:
    path.write_text("".join(f"{text}\n" for text in texts))
    return path
