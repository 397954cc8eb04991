"""Outputs to search, in each form of the embedding, made without a model."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray
from specs import manifest_for

from jobs.output.layout import MANIFEST, SUCCESS
from mtl_core.config import Embedding
from mtl_core.storage.folder import Folder
from mtl_core.storage.parquet import dictionary_column, embedding_columns, put_table

TASKS = {"topic": ["World", "Sports"]}
ROWS, PARTS, SIZE = 1500, 3, 32

Made = Callable[[str, Embedding], Path]


def vectors(seed: int = 3) -> NDArray[np.float32]:
    """Unit vectors around twenty centres, float32 [ROWS, SIZE]."""
    random = np.random.default_rng(seed)
    centres = random.normal(size=(20, SIZE))
    found = centres[np.arange(ROWS) % 20] + 0.5 * random.normal(size=(ROWS, SIZE))
    found /= np.linalg.norm(found, axis=1, keepdims=True)
    return found.astype(np.float32)


def write_output(folder: Path, form: Embedding, found: NDArray[np.float32], **model: str) -> Path:
    """A finished output of three parts; every third row is Sports, and ``day`` is the part."""
    entries = []
    for part, ids in enumerate(np.array_split(np.arange(len(found)), PARTS)):
        table = pa.table(
            {
                "row_id": pa.array(ids),
                "text": pa.array([f"text {number}" for number in ids]),
                "day": pa.array(np.full(len(ids), part)),
                "topic": dictionary_column((ids % 3 == 0).astype(np.int8), TASKS["topic"]),
                "topic_score": pa.array((0.5 + ids / (2 * len(found))).astype(np.float32)),
                "truncated": pa.array(np.zeros(len(ids), bool)),
                **embedding_columns(found[ids], form),
            }
        )
        name = f"part-{part:05d}-a1.parquet"
        written = put_table(Folder(folder), name, table)
        entries.append(
            {"part": name, "rows": len(ids), "bytes": written.bytes, "sha256": written.sha256}
        )
    manifest = manifest_for(entries, TASKS, embedding=form)
    manifest["model"] |= model
    (folder / MANIFEST).write_text(json.dumps(manifest))
    (folder / SUCCESS).touch()
    return folder


@pytest.fixture
def made(tmp_path: Path) -> Made:
    """Make an output of a name in a form."""

    def make(name: str, form: Embedding) -> Path:
        return write_output(tmp_path / name, form, vectors())

    return make
