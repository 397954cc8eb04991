"""The Parquet this project writes is read alike by the tools people use."""

from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset

from mtl_core.config import Embedding
from mtl_core.engine.base import TaskLabels
from mtl_core.storage.parquet import (
    dictionary_column,
    embedding_columns,
    label_fields,
    top_column,
    write_table,
)
from mtl_core.tasks import Task

READERS = {
    "pyarrow": lambda path: pq.read_table(path).to_pydict(),
    "pandas": lambda path: pd.read_parquet(path).to_dict("list"),
    "polars": lambda path: pl.read_parquet(path).to_dict(as_series=False),
    "datasets": lambda path: Dataset.from_parquet(str(path), cache_dir=path.parent / "c").to_dict(),
    "duckdb": lambda path: duckdb.sql(f"FROM '{path}'").to_arrow_table().to_pydict(),
}
LABELS = ["a", "b", "b", "a", "b"]


def unit_vectors(rows: int) -> np.ndarray:
    vectors = np.random.default_rng(0).normal(size=(rows, 256)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def write(path: Path, embedding: Embedding, vectors: np.ndarray) -> None:
    classes = np.array([["a", "b"].index(label) for label in LABELS], dtype=np.int8)
    columns = {"label": dictionary_column(classes, ["a", "b"])}
    write_table(path, pa.table(columns | embedding_columns(vectors, embedding)), {"who": "test"})


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize(
    ("embedding", "tolerance"), [("float32", 0), ("float16", 2e-4), ("int8", 1e-3)]
)
def test_every_reader_gets_the_labels_and_the_vectors(
    reader: str, embedding: Embedding, tolerance: float, tmp_path: Path
) -> None:
    vectors = unit_vectors(5)
    write(tmp_path / "a.parquet", embedding, vectors)
    found = READERS[reader](tmp_path / "a.parquet")
    assert list(found["label"]) == LABELS
    values = np.array([list(row) for row in found["embedding"]], dtype=np.float32)
    if embedding == "int8":
        values *= np.array(found["embedding_scale"], dtype=np.float32)[:, None]
    np.testing.assert_allclose(values, vectors, atol=tolerance, rtol=0)


@pytest.mark.parametrize("reader", READERS)
def test_every_reader_gets_the_signs(reader: str, tmp_path: Path) -> None:
    vectors = unit_vectors(5)
    write(tmp_path / "a.parquet", "binary", vectors)
    packed = np.array([list(row) for row in READERS[reader](tmp_path / "a.parquet")["embedding"]])
    signs = np.unpackbits(packed.astype(np.uint8), axis=1)
    np.testing.assert_array_equal(signs, vectors > 0)


@pytest.mark.parametrize("reader", READERS)
def test_every_reader_gets_the_most_probable_labels_in_order(reader: str, tmp_path: Path) -> None:
    probabilities = np.array([[0.25, 0.5, 0.125], [0.5, 0.125, 0.25]], dtype=np.float32)
    column = top_column(probabilities, ["a", "b", "c"], 2)
    write_table(tmp_path / "a.parquet", pa.table({"top": column}))
    rows = READERS[reader](tmp_path / "a.parquet")["top"]
    assert [[(e["label"], e["score"]) for e in row] for row in rows] == [
        [("b", 0.5), ("a", 0.25)],
        [("a", 0.5), ("c", 0.25)],
    ]


def test_a_vector_of_zeros_is_written_as_int8() -> None:
    columns = embedding_columns(np.zeros((1, 256), dtype=np.float32), "int8")
    assert columns["embedding"].to_pylist() == [[0] * 256]


def test_a_file_is_whole_and_says_where_it_is_from(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", "none", unit_vectors(5))
    assert pq.read_schema(tmp_path / "a.parquet").metadata[b"who"] == b"test"
    assert [path.name for path in tmp_path.iterdir()] == ["a.parquet"]


@pytest.mark.parametrize(
    ("labels", "kind"), [(127, pa.int8()), (128, pa.int16()), (1000, pa.int16())]
)
def test_a_label_column_holds_up_to_a_thousand_labels(
    labels: int, kind: pa.DataType, tmp_path: Path
) -> None:
    names = tuple(f"l{number}" for number in range(labels))
    probabilities = np.eye(labels, dtype=np.float32)
    answer = TaskLabels(Task("many", names), probabilities)
    column = dictionary_column(answer.classes, names)
    assert column.type == pa.dictionary(kind, pa.string())
    assert column.type == label_fields([answer.task], 8, "none")[0].type
    write_table(tmp_path / "x.parquet", pa.table({"many": column}))
    for read in READERS.values():
        assert list(read(tmp_path / "x.parquet")["many"]) == list(names)
