"""Parquet as this project writes it: explicit schemas, atomic files, no Python list of floats."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mtl_core.config import Embedding
from mtl_core.files import file_sha256
from mtl_core.storage.folder import Folder
from mtl_core.storage.place import Place
from mtl_core.tasks import Task

ROW_ID = "row_id"
EMBEDDING = "embedding"
EMBEDDING_SCALE = "embedding_scale"
TRUNCATED = "truncated"
OF_ENCODER = (TRUNCATED, EMBEDDING, EMBEDDING_SCALE)
"""Columns that the encoder alone decides, and no head."""
RESERVED_COLUMNS = frozenset({ROW_ID, *OF_ENCODER})

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
"""Schema of the rows that were not labelled.

``row`` counts the data rows of the row's file, from 1. ``line`` counts the lines of a text file,
from 1, and is null for Parquet. ``text`` is what was there, at most 1,000 characters."""


def label_fields(
    tasks: Sequence[Task],
    embedding_size: int,
    embedding: Embedding,
    *,
    abstains: bool = False,
    top: int = 0,
    typicality: bool = False,
) -> list[pa.Field]:
    """The columns that labelling adds behind the user's own, in order.

    Args:
        abstains: whether a label may be null.
        top: how many of each task's most probable labels are listed, too; 0: no such column.
        typicality: whether the model has statistics of it.
    """
    fields = []
    for task in tasks:
        labels = pa.dictionary(index_type(len(task.labels)), pa.string())
        fields.append(pa.field(task.name, labels, nullable=abstains))
        fields.append(pa.field(f"{task.name}_score", pa.float32(), nullable=False))
        if typicality:
            fields.append(pa.field(typicality_column(task.name), pa.float32(), nullable=False))
        if top:
            fields.append(pa.field(f"{task.name}_top", pa.list_(TOP_LABEL), nullable=False))
    fields.append(pa.field(TRUNCATED, pa.bool_(), nullable=False))
    if embedding != "none":
        form = pa.list_(NUMBERS[embedding], _width(embedding_size, embedding))
        fields.append(pa.field(EMBEDDING, form, nullable=False))
    if embedding == "int8":
        fields.append(pa.field(EMBEDDING_SCALE, pa.float32(), nullable=False))
    return fields


def typicality_column(task: str) -> str:
    """Name of the column with a task's typicality."""
    return f"{task}_typicality"


TOP_LABEL = pa.struct([pa.field("label", pa.string()), pa.field("score", pa.float32())])

NUMBERS: Mapping[str, pa.DataType] = {
    "float32": pa.float32(),
    "float16": pa.float16(),
    "int8": pa.int8(),
    "binary": pa.uint8(),
}


def _width(embedding_size: int, embedding: Embedding) -> int:
    """Length of the lists in the embedding column; ``binary`` packs eight signs into a byte."""
    return -(-embedding_size // 8) if embedding == "binary" else embedding_size


def index_type(labels: int) -> pa.DataType:
    """The type of a label column's indices: int8 for up to 127 labels, else int16."""
    return pa.int8() if labels <= np.iinfo(np.int8).max else pa.int16()


def output_columns(tasks: Sequence[Task], *, typicality: bool) -> set[str]:
    """Names of columns that labelling may write; a user's columns may not have them."""
    fields = label_fields(tasks, 1, "int8", top=1, typicality=typicality)
    return {ROW_ID, *(field.name for field in fields)}


def dictionary_column(
    classes: np.ndarray, labels: Sequence[str], unsure: np.ndarray | None = None
) -> pa.DictionaryArray:
    """Class indices, integers [N], as label names; null where unsure, bool [N]."""
    kind = index_type(len(labels))
    indices = pa.array(classes.astype(kind.to_pandas_dtype()), kind, mask=unsure)
    return pa.DictionaryArray.from_arrays(indices, pa.array(labels, pa.string()))


def top_column(probabilities: np.ndarray, labels: Sequence[str], top: int) -> pa.ListArray:
    """The ``top`` greatest of probabilities, float32 [N, C], with labels, greatest first."""
    top = min(top, len(labels))
    order = np.argsort(-probabilities, axis=1, kind="stable")[:, :top]
    names = pa.array(labels, pa.string()).take(pa.array(order.reshape(-1)))
    scores = pa.array(np.take_along_axis(probabilities, order, axis=1).reshape(-1))
    offsets = pa.array(np.arange(len(order) + 1, dtype=np.int32) * top)
    pairs = pa.StructArray.from_arrays([names, scores], fields=list(TOP_LABEL))
    return pa.ListArray.from_arrays(offsets, pairs)


def embedding_columns(vectors: np.ndarray, embedding: Embedding) -> dict[str, pa.Array]:
    """Vectors, float32 [N, E], as columns in the wanted form, without copying through Python.

    ``int8`` scales each vector by its largest number, so that all 127 steps are used.
    """
    if embedding == "none":
        return {}
    columns: dict[str, pa.Array] = {}
    if embedding == "int8":
        scales = np.abs(vectors).max(axis=1, initial=0) / np.float32(127)
        steps = np.divide(vectors, scales[:, None], where=scales[:, None] > 0, out=vectors * 0)
        values = np.rint(steps).astype(np.int8)
        columns[EMBEDDING_SCALE] = pa.array(scales, pa.float32())
    elif embedding == "binary":
        values = np.packbits(vectors > 0, axis=1)
    else:
        values = np.ascontiguousarray(vectors, dtype=NUMBERS[embedding].to_pandas_dtype())
    flat = pa.array(values.reshape(-1), NUMBERS[embedding])
    columns[EMBEDDING] = pa.FixedSizeListArray.from_arrays(flat, values.shape[1])
    return columns


@dataclass(frozen=True)
class TaskAnswer:
    """What is written of one task for N rows."""

    task: Task
    probabilities: np.ndarray
    """float32 [N, C]."""
    typicality: np.ndarray | None = None
    """float32 [N]; None: the model has no statistics of it."""
    least_score: float = 0.0
    """A label of a lower score is null."""
    least_typicality: float = 0.0
    """A label of a row of lower typicality is null."""

    @property
    def scores(self) -> np.ndarray:
        """Probability of the most probable class, float32 [N]."""
        return np.asarray(self.probabilities.max(axis=1, initial=0))

    def without_label(self) -> np.ndarray | None:
        """The rows whose label is null, bool [N]; None: every row has one."""
        if not self.least_score and not self.least_typicality:
            return None
        without = np.asarray(self.scores < self.least_score)
        if self.typicality is not None:
            without |= self.typicality < self.least_typicality
        return without


def add_labels(
    table: pa.Table,
    answers: Sequence[TaskAnswer],
    embeddings: np.ndarray,
    truncated: np.ndarray,
    *,
    embedding: Embedding,
    abstains: bool,
    top: int,
) -> pa.Table:
    """Add the model's columns behind a table's own, as :func:`label_fields` lists them.

    Args:
        answers: of each task that is written; all have typicality, or none.
        embeddings: float32 [N, E].
        truncated: whether the text was cut, bool [N].
        abstains: whether a label may be null.
        top: how many of a task's most probable labels are listed, too.
    """
    fields = label_fields(
        [answer.task for answer in answers],
        embeddings.shape[1],
        embedding,
        abstains=abstains,
        top=top,
        typicality=any(answer.typicality is not None for answer in answers),
    )
    arrays: dict[str, pa.Array] = {TRUNCATED: pa.array(truncated)}
    for answer in answers:
        task, probabilities = answer.task, answer.probabilities
        classes = probabilities.argmax(axis=1)
        arrays[task.name] = dictionary_column(classes, task.labels, answer.without_label())
        arrays[f"{task.name}_score"] = pa.array(answer.scores)
        if answer.typicality is not None:
            arrays[typicality_column(task.name)] = pa.array(answer.typicality)
        if top:
            arrays[f"{task.name}_top"] = top_column(probabilities, task.labels, top)
    arrays |= embedding_columns(embeddings, embedding)
    schema = pa.schema([*table.schema, *fields])
    return pa.table([*table.columns, *(arrays[field.name] for field in fields)], schema=schema)


@dataclass(frozen=True)
class Written:
    """A file as it was written."""

    bytes: int
    sha256: str


def write_table(path: Path, table: pa.Table, metadata: Mapping[str, str] | None = None) -> int:
    """Write one Parquet file of this machine atomically, zstd-compressed; returns its bytes."""
    return put_table(Folder(path.parent), path.name, table, metadata).bytes


def put_table(
    place: Place, name: str, table: pa.Table, metadata: Mapping[str, str] | None = None
) -> Written:
    """Write one Parquet file atomically, zstd-compressed.

    Args:
        metadata: added to the schema's own.
    """
    if metadata:
        existing = table.schema.metadata or {}
        table = table.replace_schema_metadata({**existing, **metadata})
    # A dictionary and statistics are of no use for vectors: their column has neither.
    names = [n for n in table.schema.names if n != EMBEDDING]
    with place.writing(name) as path:
        pq.write_table(
            table, path, compression="zstd", use_dictionary=names, write_statistics=names
        )
        return Written(path.stat().st_size, file_sha256(path))
