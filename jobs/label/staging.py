"""Staged shards: the rows of each shard as a small Parquet file; and rows that go to errors."""

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from jobs.input.readers import SAMPLE_CHARS
from jobs.output.layout import staged_name
from mtl_core.errors import OutputError
from mtl_core.storage.parquet import ERROR_SCHEMA, ROW_ID, put_table
from mtl_core.storage.place import Place

FIRST_SHARD = "00000"
TEXT_COLUMN_KEY = b"mtl.text_column"


def stage_shard(output: Place, name: str, table: pa.Table) -> tuple[str, dict[str, str | int]]:
    """Write a shard's rows; returns its name and definition for the ledger."""
    file = f"shard-{name}.parquet"
    put_table(output, staged_name(file), table)
    return name, {"file": file, "rows": len(table)}


def read_shard(output: Place, definition: Mapping[str, Any]) -> pa.Table:
    """Read a shard's rows; of a piece of a split shard, only the rows of that piece.

    Raises:
        OutputError: the staged file has gone.
    """
    table = _read(output, definition["file"])
    return table.slice(definition.get("offset", 0), definition["rows"])


def read_texts(output: Place, definition: Mapping[str, Any]) -> tuple[pa.Table, list[str]]:
    """Read a shard's rows, and their texts."""
    table = read_shard(output, definition)
    return table, table.column(text_column_of(table)).to_pylist()


def read_first_shard(output: Place) -> pa.Table:
    """Read the shard that was planned first; it is staged before any other."""
    return _read(output, f"shard-{FIRST_SHARD}.parquet")


def _read(output: Place, file: str) -> pa.Table:
    # A stream is read and not a path: Arrow would take folders named a=b in a path for columns.
    try:
        with output.reading(staged_name(file)) as path, path.open("rb") as stream:
            return pq.read_table(stream)
    except FileNotFoundError as error:
        raise OutputError(
            f"{output.at(staged_name(file))}, the job's own, has gone; the same command begins anew"
        ) from error


def text_column_of(table: pa.Table) -> str:
    """The column to label, as the planner noted it in a staged shard."""
    return str((table.schema.metadata or {})[TEXT_COLUMN_KEY], "utf-8")


def error_rows(rows: pa.Table, reasons: Sequence[str]) -> pa.Table:
    """Rows of a staged shard as rows of ``errors/``.

    Their file, row and line are null: a staged shard does not hold them.
    """
    count = len(rows)
    texts = [valid(str(text)[:SAMPLE_CHARS]) for text in rows[text_column_of(rows)].to_pylist()]
    return pa.table(
        [
            rows[ROW_ID],
            pa.nulls(count, pa.string()),
            pa.nulls(count, pa.int64()),
            pa.nulls(count, pa.int64()),
            pa.array(list(reasons), pa.string()),
            pa.array(texts, pa.string()),
        ],
        schema=ERROR_SCHEMA,
    )


def valid(text: str) -> str:
    """The text with every half surrogate pair replaced, since Parquet cannot hold those."""
    return text.encode("utf-8", "replace").decode("utf-8")
