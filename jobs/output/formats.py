"""The files that rows are collected into: Parquet, csv, jsonl; and what each of them can hold."""

import base64
import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Literal, Protocol

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from mtl_core.errors import OutputError

CollectFormat = Literal["parquet", "csv", "jsonl"]
SUFFIXES: dict[str, CollectFormat] = {
    ".parquet": "parquet",
    ".csv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
}
JSON_BATCH_ROWS = 1000


class Sink(Protocol):
    """Takes tables, one after another."""

    def write_table(self, table: pa.Table) -> None:
        """Append rows."""
        ...


def format_of(target: Path) -> CollectFormat:
    """The format that a file's name tells; Parquet if the name has no ending.

    Raises:
        OutputError: the name ends in no known format.
    """
    if not target.suffix:
        return "parquet"
    if target.suffix.lower() not in SUFFIXES:
        raise OutputError(
            f"{target}: its name ends in no known format; name it {', '.join(SUFFIXES)} "
            "or give --format"
        )
    return SUFFIXES[target.suffix.lower()]


def left_out(schema: pa.Schema, form: CollectFormat) -> dict[str, str]:
    """The columns that a format cannot hold, each with its type in a word."""
    if form != "csv":
        return {}
    return {f.name: _word(f.type) for f in schema if csv_type(f.type) is None}


def csv_type(kind: pa.DataType) -> pa.DataType | None:
    """The type in which a column is written to csv; None if csv cannot hold the column."""
    if isinstance(kind, pa.UuidType):
        return pa.string()
    if isinstance(kind, pa.BaseExtensionType):
        return csv_type(kind.storage_type)
    if pa.types.is_dictionary(kind) or pa.types.is_run_end_encoded(kind):
        return csv_type(kind.value_type)
    if pa.types.is_string_view(kind):
        return pa.large_string()
    binary = (
        pa.types.is_binary(kind)
        or pa.types.is_large_binary(kind)
        or pa.types.is_fixed_size_binary(kind)
        or pa.types.is_binary_view(kind)
    )
    if binary or pa.types.is_nested(kind) or pa.types.is_interval(kind):
        return None
    return kind


def _word(kind: pa.DataType) -> str:
    if pa.types.is_dictionary(kind) or pa.types.is_run_end_encoded(kind):
        return _word(kind.value_type)
    for word, fits in (
        ("list", pa.types.is_list(kind) or pa.types.is_large_list(kind)),
        ("list", pa.types.is_fixed_size_list(kind)),
        ("map", pa.types.is_map(kind)),
        ("fields", pa.types.is_struct(kind)),
        ("interval", pa.types.is_interval(kind)),
        ("nested", pa.types.is_nested(kind)),
    ):
        if fits:
            return word
    return "bytes"


@contextmanager
def writing(stream: IO[bytes], form: CollectFormat, schema: pa.Schema) -> Iterator[Sink]:
    """A sink that writes a format into a stream.

    The stream must be one of Python's own: its errors come back as exceptions in this thread. A
    file of Arrow's ends the process if the disk is full and another thread closes it.
    """
    if form == "parquet":
        with pq.ParquetWriter(stream, schema, compression="zstd") as writer:
            yield writer
    elif form == "csv":
        plain = pa.schema([pa.field(f.name, csv_type(f.type), f.nullable) for f in schema])
        with pa.csv.CSVWriter(stream, plain) as writer:
            yield _Plain(writer, plain)
    else:
        yield _JsonLines(stream)


class _Plain:
    """Casts each table to types that csv knows."""

    def __init__(self, sink: Sink, schema: pa.Schema) -> None:
        self.sink, self.schema = sink, schema

    def write_table(self, table: pa.Table) -> None:
        columns = [
            _plain(column, field.type)
            for column, field in zip(table.columns, self.schema, strict=True)
        ]
        self.sink.write_table(pa.Table.from_arrays(columns, schema=self.schema))


def _plain(column: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    if isinstance(column.type, pa.UuidType):
        return pa.chunked_array([[None if v is None else str(v) for v in column.to_pylist()]], kind)
    if isinstance(column.type, pa.BaseExtensionType):
        storage = column.type.storage_type
        return _plain(pa.chunked_array([c.storage for c in column.chunks], storage), kind)
    if pa.types.is_run_end_encoded(column.type):
        decoded = [pc.run_end_decode(chunk) for chunk in column.chunks]
        return _plain(pa.chunked_array(decoded, column.type.value_type), kind)
    return column.cast(kind)


class _JsonLines:
    """Writes one JSON object a line; NaN and infinities become null, bytes become base64."""

    def __init__(self, stream: IO[bytes]) -> None:
        self.stream = stream

    def write_table(self, table: pa.Table) -> None:
        for batch in table.to_batches(max_chunksize=JSON_BATCH_ROWS):
            for row in batch.to_pylist():
                self.stream.write(_json_line(row).encode())


def _json_line(row: dict[str, Any]) -> str:
    try:
        line = json.dumps(row, ensure_ascii=False, allow_nan=False, default=_json_value)
    except ValueError:  # NaN or an infinity is in it; those are rare, so this way may be slow
        line = json.dumps(_finite(row), ensure_ascii=False, allow_nan=False, default=_json_value)
    return line + "\n"


def _json_value(value: Any) -> Any:
    return base64.b64encode(value).decode() if isinstance(value, bytes) else str(value)


def _finite(value: Any) -> Any:
    """The value with None for every NaN and infinity, within lists and fields too."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(inner) for inner in value]
    return value
