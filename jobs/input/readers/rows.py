"""What all readers share: good and bad rows, opening a file, what a text may be."""

import bz2
import codecs
import gzip
import io
import json
import lzma
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Protocol, cast

import pyarrow as pa

from jobs.specs import InputFile
from mtl_core.errors import InputError

SAMPLE_CHARS = 1000
NESTED = "mtl.nested"
"""Key in the metadata of a jsonl column that holds objects only. The value is JSON: the names of
the objects' fields, each with true if the field holds text."""


@dataclass(frozen=True)
class TextColumn:
    """Where a row's text is: in a column, within a nested one, or spread over several."""

    paths: tuple[tuple[str, ...], ...]
    """For each part of the text: a column's name, then the names of the fields that lead to it."""

    @property
    def derived(self) -> bool:
        """Whether no column of the input is the text, so that a column is made for it."""
        return len(self.paths) > 1 or len(self.paths[0]) > 1

    @property
    def name(self) -> str:
        """The column that holds the text: the input's own, or the one made for it."""
        return "_".join(name for path in self.paths for name in path)

    def of(self, record: Mapping[str, Any]) -> object:
        """The text of a row: the parts that are there, with a space between them."""
        return self.joined([_go_down(record, path) for path in self.paths])

    def joined(self, values: Sequence[object]) -> object:
        """Join the parts of a row's text by spaces; a part that is no text is returned instead."""
        wrong = [v for v in values if v is not None and not isinstance(v, str)]
        if len(values) == 1 or wrong:
            return wrong[0] if wrong else values[0]
        return " ".join(v.strip() for v in values if isinstance(v, str) and v.strip())

    def field(self) -> list[pa.Field]:
        """The column that is made for the text, in a list; an empty list if none is made."""
        return [pa.field(self.name, pa.string())] if self.derived else []


def _go_down(value: Any, path: Sequence[str]) -> object:
    for name in path:
        if not isinstance(value, Mapping):
            return value  # no object where one was expected: text_problem says so
        value = value.get(name)
    return value


@dataclass(frozen=True)
class BadRow:
    """A row that cannot be labelled."""

    row: int
    """The row's number among the data rows of its file, from 1."""
    line: int | None
    """The row's line in its file, from 1; None where the format has no lines."""
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
    """Reads files of one format."""

    def fields(self, file: InputFile) -> list[pa.Field]:
        """The file's columns. Raises InputError when they cannot be read."""
        ...

    def read(self, file: InputFile, text: TextColumn, chunk_rows: int) -> Iterator[Chunk]:
        """The file's rows, as a stream. Raises InputError when the file is damaged."""
        ...


def is_text(kind: pa.DataType) -> bool:
    """Whether a column of this type can hold the text."""
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(
        pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    )


def inner_fields(field: pa.Field) -> dict[str, bool]:
    """The fields within a nested column, named with dots, and whether each can hold the text."""
    if noted := (field.metadata or {}).get(NESTED.encode()):
        found: dict[str, bool] = json.loads(noted)
        return found
    if not pa.types.is_struct(field.type):
        return {}
    inner: dict[str, bool] = {}
    for own in field.type:
        deeper = inner_fields(own)
        inner |= {f"{own.name}.{name}": text for name, text in deeper.items()}
        if not deeper:
            inner[own.name] = is_text(own.type)
    return inner


def text_problem(text: object) -> str | None:
    """Why this value cannot be labelled, or None."""
    if text is None:
        return "the text is null"
    if not isinstance(text, str):
        return f"the text is not a string but {type(text).__name__}"
    if not text.strip():
        return "the text is blank"
    return None


def _open_zstd(path: str | Path, mode: str) -> IO[bytes]:
    # Arrow raises an error where a file was cut short; the package zstandard just ends.
    return io.BufferedReader(pa.input_stream(str(path), compression="zstd"), 1 << 16)


OPENERS: Mapping[str, Callable[..., Any]] = {
    "none": open,
    "gzip": gzip.open,
    "bz2": bz2.open,
    "xz": lzma.open,
    "zstd": _open_zstd,
}


def open_file(file: InputFile) -> IO[bytes]:
    """The file's bytes, uncompressed; text in another encoding comes as UTF-8."""
    stream = cast(IO[bytes], OPENERS[file.compression](file.path, "rb"))
    if file.encoding == "utf-8":
        return stream
    return cast(IO[bytes], io.BufferedReader(_Recoded(stream, file.encoding)))


MARKED = "mtl.marked"
"""Name of an error handler for codecs. It turns what is no character of the encoding into a byte
that is no UTF-8, so that the row is found and set aside like any other bad row."""


def _mark(error: UnicodeError) -> tuple[str | bytes, int]:
    if isinstance(error, UnicodeEncodeError):
        return b"\xff", error.end
    if isinstance(error, UnicodeDecodeError):
        return "\udcff", error.end
    raise error


codecs.register_error(MARKED, _mark)


class _Recoded(io.RawIOBase):
    """Turns a stream of text in another encoding into a stream of UTF-8."""

    def __init__(self, stream: IO[bytes], encoding: str) -> None:
        self._stream = stream
        self._decoder = codecs.getincrementaldecoder(encoding)(MARKED)
        self._ready = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        ended = False
        while not self._ready and not ended:
            raw = self._stream.read(1 << 16)
            ended = not raw
            text = self._decoder.decode(raw, final=ended)
            self._ready = text.encode("utf-8", MARKED)
        count = min(len(buffer), len(self._ready))
        buffer[:count], self._ready = self._ready[:count], self._ready[count:]
        return count

    def close(self) -> None:
        self._stream.close()
        super().close()


def lines_of(file: InputFile) -> Iterator[bytes]:
    """The file's lines as UTF-8, each with ``\\n`` at its end, without a byte order mark."""
    with open_file(file) as stream:
        lines = stream if file.line_end == "\n" else _lines_by_returns(stream)
        for number, raw in enumerate(lines):
            yield raw if number else raw.removeprefix(codecs.BOM_UTF8)


def _lines_by_returns(stream: IO[bytes]) -> Iterator[bytes]:
    rest = b""
    while block := stream.read(1 << 16):
        *whole, rest = (rest + block).split(b"\r")
        yield from (line + b"\n" for line in whole)
    if rest.strip(b"\n"):
        yield rest


def undecodable(file: InputFile) -> str:
    """The reason that is given for a row with bytes that are no text in the file's encoding."""
    return f"not {file.encoding.upper()}"


def damaged(file: InputFile, row: int, error: Exception) -> InputError:
    return InputError(
        f"{file.name}: damaged after row {row} ({in_words(error)}); nothing after it is readable"
    )


def in_words(error: Exception) -> str:
    """The first line of an error's message; if that is empty, the name of its type."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


DAMAGE = (EOFError, gzip.BadGzipFile, zlib.error, lzma.LZMAError, OSError, UnicodeError)
CHUNK_CHARS = 1 << 24
"""A chunk that holds so many characters takes no more rows, so that memory stays flat."""


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
        self._characters = 0

    def good(self, values: Sequence[Any]) -> None:
        self.row += 1
        self._rows.append(self.row)
        for column, value in zip(self._columns, values, strict=True):
            column.append(value)
            self._characters += len(value) if isinstance(value, str) else 0

    def bad(self, line: int, reason: str, text: str) -> None:
        self.row += 1
        self._bad.append(BadRow(self.row, line, reason, text[:SAMPLE_CHARS]))

    @property
    def full(self) -> bool:
        rows = len(self._rows) + len(self._bad)
        return rows >= self.chunk_rows or self._characters >= CHUNK_CHARS

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
    """Whether a string holds half a surrogate pair, which Parquet cannot hold."""
    for value in values:
        if isinstance(value, str) and not value.isascii():
            try:
                value.encode()
            except UnicodeEncodeError:
                return True
    return False


def as_read(text: str) -> bytes:
    """The bytes that a text was decoded from; those that were no UTF-8 stand in it escaped."""
    return text.encode("utf-8", "surrogateescape")
