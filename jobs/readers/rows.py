"""What all readers share: good and bad rows, opening a file, what a text may be."""

import gzip
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import IO, Any, Protocol, cast

import pyarrow as pa

from jobs.specs import InputFile
from mtl_core.errors import InputError

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
    return bool(
        pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    )


def text_problem(text: object) -> str | None:
    """Why this value cannot be labelled, or None."""
    if text is None:
        return "the text is null"
    if not isinstance(text, str):
        return f"the text is not a string but {type(text).__name__}"
    if not text.strip():
        return "the text is blank"
    return None


def open_file(file: InputFile) -> IO[bytes]:
    opened: Callable[..., Any] = gzip.open if file.compression == "gzip" else open
    return cast(IO[bytes], opened(file.path, "rb"))


def damaged(file: InputFile, row: int, error: Exception) -> InputError:
    return InputError(
        f"{file.path}: damaged after row {row} ({error}); nothing after it is readable"
    )


DAMAGE = (EOFError, gzip.BadGzipFile, zlib.error, OSError)


class RowBuffer:
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


def printable(data: bytes) -> str:
    return data[: 4 * SAMPLE_CHARS].decode("utf-8", "replace")


def unpaired(*values: Any) -> bool:
    """Whether a string holds half a surrogate pair: no valid Unicode, and no Parquet string."""
    for value in values:
        if isinstance(value, str) and not value.isascii():
            try:
                value.encode()
            except UnicodeEncodeError:
                return True
    return False
