"""Readers of txt, csv, tsv, jsonl and Parquet: streams of good rows and bad rows.

Columns come as they are: csv and tsv columns stay strings (``007`` stays ``007``), Parquet columns
keep their types, jsonl columns get the narrowest of bool, int64, double and string that holds all
their values, anything nested or mixed as JSON text.
"""

import csv
import gzip
import io
import json
import sys
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import IO, Any, Protocol, cast

import pyarrow as pa
import pyarrow.parquet as pq

from jobs.specs import InputFile
from mtl_core.errors import InputError

csv.field_size_limit(min(sys.maxsize, 2**31 - 1))

SAMPLE_CHARS = 1000


@dataclass(frozen=True)
class BadRow:
    """A row that cannot be labelled."""

    row: int
    """Data row of its file, from 1."""
    line: int | None
    """Line of its file, from 1; None where the format has no lines."""
    reason: str
    text: str
    """What was there, at most 1,000 characters."""


@dataclass
class Chunk:
    """Some consecutive rows of one file: the good ones as a table, the bad ones apart."""

    table: pa.Table
    rows: Sequence[int]
    """Data row numbers of the good rows, from 1."""
    bad: list[BadRow] = field(default_factory=list)


class Reader(Protocol):
    """Knows one format."""

    def fields(self, file: InputFile) -> list[pa.Field]:
        """The file's columns. Raises InputError when they cannot be read."""
        ...

    def read(self, file: InputFile, text_column: str, chunk_rows: int) -> Iterator[Chunk]:
        """The file's rows, as a stream. Raises InputError when the file is damaged."""
        ...


def is_text(kind: pa.DataType) -> bool:
    """Whether a column of this type can hold the text."""
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)


def text_problem(text: object) -> str | None:
    """Why this value cannot be labelled, or None."""
    if text is None:
        return "the text is null"
    if not isinstance(text, str):
        return f"the text is not a string but {type(text).__name__}"
    if not text.strip():
        return "the text is blank"
    return None


def _open(file: InputFile) -> IO[bytes]:
    opened: Callable[..., Any] = gzip.open if file.compression == "gzip" else open
    return cast(IO[bytes], opened(file.path, "rb"))


def _damaged(file: InputFile, row: int, error: Exception) -> InputError:
    return InputError(f"{file.path}: damaged after row {row} ({error}); nothing after it is readable")


_DAMAGE = (EOFError, gzip.BadGzipFile, zlib.error, OSError)


class _RowBuffer:
    """Collects rows into chunks; every row goes in as good or as bad."""

    def __init__(self, fields: Sequence[pa.Field], chunk_rows: int) -> None:
        self.fields, self.chunk_rows = fields, chunk_rows
        self.row = 0
        self._clear()

    def _clear(self) -> None:
        self._columns: list[list[Any]] = [[] for _ in self.fields]
        self._rows: list[int] = []
        self._bad: list[BadRow] = []

    def good(self, values: Sequence[Any]) -> None:
        self.row += 1
        self._rows.append(self.row)
        for column, value in zip(self._columns, values, strict=True):
            column.append(value)

    def bad(self, line: int, reason: str, text: str) -> None:
        self.row += 1
        self._bad.append(BadRow(self.row, line, reason, text[:SAMPLE_CHARS]))

    @property
    def full(self) -> bool:
        return len(self._rows) + len(self._bad) >= self.chunk_rows

    def take(self) -> Chunk:
        arrays = [
            pa.array(column, f.type) for column, f in zip(self._columns, self.fields, strict=True)
        ]
        chunk = Chunk(pa.table(arrays, schema=pa.schema(list(self.fields))), self._rows, self._bad)
        self._clear()
        return chunk


def _printable(data: bytes) -> str:
    return data[: 4 * SAMPLE_CHARS].decode("utf-8", "replace")


def _unpaired(*values: Any) -> bool:
    """Whether a string holds half a surrogate pair: no valid Unicode, and no Parquet string."""
    for value in values:
        if isinstance(value, str) and not value.isascii():
            try:
                value.encode()
            except UnicodeEncodeError:
                return True
    return False


class TxtReader:
    """A sentence a line."""

    def fields(self, file: InputFile) -> list[pa.Field]:
        return [pa.field("text", pa.string())]

    def read(self, file: InputFile, text_column: str, chunk_rows: int) -> Iterator[Chunk]:
        rows = _RowBuffer(self.fields(file), chunk_rows)
        try:
            with _open(file) as stream:
                for line, raw in enumerate(stream, start=1):
                    raw = raw.removeprefix(b"\xef\xbb\xbf") if line == 1 else raw
                    raw = raw.rstrip(b"\r\n")
                    try:
                        text = raw.decode("utf-8")
                    except UnicodeDecodeError as error:
                        rows.bad(line, f"not UTF-8 at byte {error.start + 1}", _printable(raw))
                    else:
                        problem = text_problem(text)
                        if problem:
                            rows.bad(line, problem, text)
                        else:
                            rows.good((text,))
                    if rows.full:
                        yield rows.take()
        except _DAMAGE as error:
            raise _damaged(file, rows.row, error) from error
        yield rows.take()


class CsvReader:
    """Comma- or tab-separated values with a header line, quoted by RFC 4180."""

    def __init__(self, delimiter: str) -> None:
        self.delimiter = delimiter

    def _rows(self, stream: IO[bytes]) -> Any:
        # Bytes that are no UTF-8 come through as surrogates and are found row by row.
        text = io.TextIOWrapper(stream, "utf-8-sig", errors="surrogateescape", newline="")
        return csv.reader(text, delimiter=self.delimiter)

    def fields(self, file: InputFile) -> list[pa.Field]:
        try:
            with _open(file) as stream:
                header = next(self._rows(stream), [])
        except (*_DAMAGE, csv.Error) as error:
            raise InputError(f"{file.path}: its header cannot be read ({error})") from error
        if not header:
            raise InputError(f"{file.path}: no header line; the first line must name the columns")
        if _unpaired(*header):
            raise InputError(f"{file.path}: its header is not UTF-8")
        repeated = sorted({name for name in header if header.count(name) > 1})
        if repeated:
            raise InputError(f"{file.path}: column '{repeated[0]}' is named twice in the header")
        return [pa.field(name, pa.string()) for name in header]

    def read(self, file: InputFile, text_column: str, chunk_rows: int) -> Iterator[Chunk]:
        fields = self.fields(file)
        position = [f.name for f in fields].index(text_column)
        rows = _RowBuffer(fields, chunk_rows)
        try:
            with _open(file) as stream:
                reader = self._rows(stream)
                next(reader)
                while (values := _next_row(reader)) is not None:
                    line = reader.line_num
                    if isinstance(values, csv.Error):
                        rows.bad(line, f"not readable as a row: {values}", "")
                    elif values:  # a blank line is no row
                        self._sort_in(rows, values, line, len(fields), position)
                    if rows.full:
                        yield rows.take()
        except _DAMAGE as error:
            raise _damaged(file, rows.row, error) from error
        yield rows.take()

    def _sort_in(
        self, rows: _RowBuffer, values: list[str], line: int, width: int, position: int
    ) -> None:
        shown = self.delimiter.join(values) if len(values) != width else values[position]
        if _unpaired(*values):
            original = shown.encode("utf-8", "surrogateescape")
            rows.bad(line, "not UTF-8", _printable(original))
        elif len(values) != width:
            rows.bad(line, f"{len(values)} fields, the header has {width}", shown)
        elif problem := text_problem(values[position]):
            rows.bad(line, problem, shown)
        else:
            rows.good(values)


def _next_row(reader: Any) -> list[str] | csv.Error | None:
    try:
        return cast("list[str] | None", next(reader, None))
    except csv.Error as error:
        return error


class JsonlReader:
    """One JSON object a line."""

    def _lines(self, file: InputFile) -> Iterator[tuple[int, bytes]]:
        with _open(file) as stream:
            for line, raw in enumerate(stream, start=1):
                raw = raw.removeprefix(b"\xef\xbb\xbf") if line == 1 else raw
                if raw.strip():  # a blank line is no row
                    yield line, raw

    def fields(self, file: InputFile) -> list[pa.Field]:
        """Columns by one pass over the file: a type guessed from its start would break later."""
        types: dict[str, pa.DataType] = {}
        try:
            for _, raw in self._lines(file):
                record = _parse_object(raw)
                if isinstance(record, dict):
                    for name, value in record.items():
                        types[name] = _wider(types.get(name), value)
        except _DAMAGE as error:
            raise InputError(f"{file.path}: cannot be read ({error})") from error
        if not types:
            raise InputError(f"{file.path}: no JSON object in any of its lines")
        return [
            pa.field(name, pa.string() if pa.types.is_null(kind) else kind)
            for name, kind in types.items()
        ]

    def read(self, file: InputFile, text_column: str, chunk_rows: int) -> Iterator[Chunk]:
        fields = self.fields(file)
        rows = _RowBuffer(fields, chunk_rows)
        try:
            for line, raw in self._lines(file):
                record = _parse_object(raw)
                if isinstance(record, str):
                    rows.bad(line, record, _printable(raw.strip()))
                elif problem := text_problem(record.get(text_column)):
                    rows.bad(line, problem, _printable(raw.strip()))
                else:
                    values = [_as_type(record.get(f.name), f.type) for f in fields]
                    if _unpaired(*values):
                        rows.bad(line, "holds half a surrogate pair", _printable(raw.strip()))
                    else:
                        rows.good(values)
                if rows.full:
                    yield rows.take()
        except _DAMAGE as error:
            raise _damaged(file, rows.row, error) from error
        yield rows.take()


def _parse_object(raw: bytes) -> dict[str, Any] | str:
    """The line's object, or why it is none."""
    try:
        record = json.loads(raw.decode("utf-8"))
    except UnicodeDecodeError as error:
        return f"not UTF-8 at byte {error.start + 1}"
    except (json.JSONDecodeError, RecursionError) as error:
        return f"broken JSON: {error}"
    if not isinstance(record, dict):
        return f"not a JSON object but {type(record).__name__}"
    return record


def _wider(known: pa.DataType | None, value: Any) -> pa.DataType:
    """The narrowest type that holds what was seen so far and this value."""
    if value is None:
        return known or pa.null()
    if isinstance(value, bool):
        own = pa.bool_()
    elif isinstance(value, int) and -(2**63) <= value < 2**63:
        own = pa.int64()
    elif isinstance(value, float):
        own = pa.float64()
    else:
        own = pa.string()
    if known is None or pa.types.is_null(known) or known == own:
        return own
    if {known, own} == {pa.int64(), pa.float64()}:
        return pa.float64()
    return pa.string()


def _as_type(value: Any, kind: pa.DataType) -> Any:
    if value is None or not pa.types.is_string(kind):
        return value
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


class ParquetReader:
    """Parquet; columns keep their types."""

    def _file(self, file: InputFile) -> pq.ParquetFile:
        try:
            if file.compression == "gzip":
                with _open(file) as stream:
                    return pq.ParquetFile(pa.py_buffer(stream.read()))
            return pq.ParquetFile(file.path)
        except (pa.ArrowException, *_DAMAGE) as error:
            raise InputError(f"{file.path}: not a readable Parquet file ({error})") from error

    def fields(self, file: InputFile) -> list[pa.Field]:
        return list(self._file(file).schema_arrow.remove_metadata())

    def read(self, file: InputFile, text_column: str, chunk_rows: int) -> Iterator[Chunk]:
        row = 0
        try:
            for batch in self._file(file).iter_batches(batch_size=chunk_rows):
                table = pa.Table.from_batches([batch]).replace_schema_metadata(None)
                yield _split_bad(table, text_column, row)
                row += len(table)
        except (pa.ArrowException, OSError) as error:
            raise _damaged(file, row, error) from error


def _split_bad(table: pa.Table, text_column: str, offset: int) -> Chunk:
    texts = table.column(text_column).to_pylist()
    bad = [
        BadRow(offset + index + 1, None, problem, str(text or "")[:SAMPLE_CHARS])
        for index, text in enumerate(texts)
        if (problem := text_problem(text))
    ]
    if not bad:
        return Chunk(table, range(offset + 1, offset + 1 + len(table)))
    wrong = {row.row for row in bad}
    good = [row for row in range(offset + 1, offset + 1 + len(table)) if row not in wrong]
    return Chunk(table.take([row - offset - 1 for row in good]), good, bad)


READERS: dict[str, Reader] = {
    "txt": TxtReader(),
    "csv": CsvReader(","),
    "tsv": CsvReader("\t"),
    "jsonl": JsonlReader(),
    "parquet": ParquetReader(),
}
