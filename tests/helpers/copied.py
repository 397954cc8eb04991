"""Outputs whose embeddings a test chooses."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from outputs import TASKS
from specs import manifest_for

from jobs.output.layout import MANIFEST, SUCCESS
from mtl_core.config import Embedding
from mtl_core.files import file_sha256
from mtl_core.storage.parquet import dictionary_column, embedding_columns


def output_with(
    folder: Path,
    vectors: NDArray[np.float32],
    *,
    topics: Sequence[int] | None = None,
    own: Sequence[object] | None = None,
    form: Embedding = "float32",
) -> Path:
    """A finished output of these embeddings, [N, E]; ``own`` is a column of the user's."""
    folder.mkdir()
    count = len(vectors)
    labels = np.asarray(topics if topics is not None else np.arange(count) % 2, np.int8)
    columns = {
        "row_id": pa.array(np.arange(count)),
        "text": pa.array([f"text {row}" for row in range(count)]),
        "topic": dictionary_column(labels, TASKS["topic"]),
        "topic_score": pa.array(np.linspace(0.5, 1, count, dtype=np.float32)),
        "sentiment": dictionary_column(np.zeros(count, np.int8), TASKS["sentiment"]),
        "sentiment_score": pa.array(np.full(count, 0.9, np.float32)),
        "own": pa.array(list(own) if own is not None else ["same"] * count),
        **embedding_columns(vectors, form),
    }
    pq.write_table(pa.table(columns), folder / "part-00000-a1.parquet")
    sha256 = file_sha256(folder / "part-00000-a1.parquet")
    entries = [{"part": "part-00000-a1.parquet", "rows": count, "sha256": sha256}]
    (folder / MANIFEST).write_text(json.dumps(manifest_for(entries, TASKS, embedding=form)))
    (folder / SUCCESS).touch()
    return folder


def directions(count: int, size: int = 64, seed: int = 0) -> NDArray[np.float32]:
    """Unit vectors at random, float32 [N, E]; no two of them are near."""
    found = np.random.default_rng(seed).standard_normal((count, size)).astype(np.float32)
    return np.asarray(found / np.linalg.norm(found, axis=1, keepdims=True), np.float32)


def moved(vectors: NDArray[np.float32], cosine: float, seed: int = 1) -> NDArray[np.float32]:
    """Unit vectors at that cosine from these, float32 [N, E]."""
    aside = directions(*vectors.shape, seed=seed)
    aside -= (aside * vectors).sum(axis=1, keepdims=True) * vectors
    aside /= np.linalg.norm(aside, axis=1, keepdims=True)
    return np.asarray(cosine * vectors + (1 - cosine**2) ** 0.5 * aside, np.float32)
