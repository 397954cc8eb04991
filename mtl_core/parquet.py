"""Parquet as this project writes it: explicit schemas, atomic files, no Python list of floats."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mtl_core.files import replace_file
from mtl_core.tasks import Task

Embedding = Literal["float32", "float16", "none"]

ROW_ID = "row_id"
EMBEDDING = "embedding"
TRUNCATED = "truncated"
RESERVED_COLUMNS = frozenset({ROW_ID, EMBEDDING, TRUNCATED})

ERROR_SCHEMA = pa.schema(
    [
        pa.field(ROW_ID, pa.int64(), nullable=False),
        pa.field("file", pa.string()),
        pa.field("row", pa.int64()),
        pa.field("line", pa.int64()),
        pa.field("reason", pa.string()),
        pa.field("text", pa.string()),
    ]
)
"""A row that was not labelled: ``row`` counts data rows of its file from 1, ``line`` lines of a
text file from 1 (null for Parquet); ``text`` is what was there, at most 1,000 characters."""


def label_fields(
    tasks: Sequence[Task], embedding_size: int, embedding: Embedding, *, abstains: bool = False
) -> list[pa.Field]:
    """The columns labelling adds behind the user's own, in order.

    Args:
        abstains: a label may be null.
    """
    fields = []
    for task in tasks:
        labels = pa.dictionary(pa.int8(), pa.string())
        fields.append(pa.field(task.name, labels, nullable=abstains))
        fields.append(pa.field(f"{task.name}_score", pa.float32(), nullable=False))
    fields.append(pa.field(TRUNCATED, pa.bool_(), nullable=False))
    if embedding != "none":
        width = pa.float16() if embedding == "float16" else pa.float32()
        fields.append(pa.field(EMBEDDING, pa.list_(width, embedding_size), nullable=False))
    return fields


def output_columns(tasks: Sequence[Task]) -> set[str]:
    """Names that labelling may write, and user columns therefore may not have."""
    return {ROW_ID, *(field.name for field in label_fields(tasks, 1, "float32"))}


def dictionary_column(
    classes: np.ndarray, labels: Sequence[str], unsure: np.ndarray | None = None
) -> pa.DictionaryArray:
    """Class indices, int8 [N], as label names; null where unsure, bool [N]."""
    return pa.DictionaryArray.from_arrays(
        pa.array(classes, pa.int8(), mask=unsure), pa.array(labels, pa.string())
    )


def embedding_column(vectors: np.ndarray, embedding: Embedding) -> pa.FixedSizeListArray:
    """Vectors, float32 [N, E], as a fixed-size list column, without copying through Python."""
    dtype = np.float16 if embedding == "float16" else np.float32
    flat = np.ascontiguousarray(vectors, dtype=dtype).reshape(-1)
    return pa.FixedSizeListArray.from_arrays(pa.array(flat), vectors.shape[1])


def write_table(path: Path, table: pa.Table, metadata: Mapping[str, str] | None = None) -> int:
    """Write one Parquet file atomically, zstd-compressed.

    Args:
        metadata: added to the schema's own.
    Returns:
        the file's size in bytes.
    """
    if metadata:
        existing = table.schema.metadata or {}
        table = table.replace_schema_metadata({**existing, **metadata})
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        # Vectors are noise to a dictionary and to byte-stream statistics: skip both for them.
        names = [n for n in table.schema.names if n != EMBEDDING]
        pq.write_table(
            table, temporary, compression="zstd", use_dictionary=names, write_statistics=names
        )
        replace_file(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return path.stat().st_size
