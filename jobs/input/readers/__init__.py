"""Readers of txt, csv, tsv, JSON, Parquet and Arrow: streams of good rows and bad rows.

Columns come as they are: csv and tsv columns stay strings (``007`` stays ``007``), Parquet and
Arrow columns keep their types, jsonl columns get the narrowest of bool, int64, double and string
that holds all their values; anything nested or mixed becomes JSON text. The names of a file's
folders (``lang=en``) give further columns, of strings, behind its own.
"""

from collections.abc import Iterator

import pyarrow as pa

from jobs.input.readers.columnar import ArrowReader, ParquetReader
from jobs.input.readers.jsonl import LONG, JsonlReader, JsonReader
from jobs.input.readers.rows import (
    DAMAGE,
    OPENERS,
    SAMPLE_CHARS,
    BadRow,
    Chunk,
    Reader,
    TextColumn,
    inner_fields,
    is_text,
)
from jobs.input.readers.text import CsvReader, TxtReader, columns_of
from jobs.specs import InputFile

__all__ = [
    "DAMAGE",
    "LONG",
    "OPENERS",
    "READERS",
    "SAMPLE_CHARS",
    "BadRow",
    "Chunk",
    "Reader",
    "TextColumn",
    "columns_of",
    "fields_of",
    "inner_fields",
    "is_text",
    "read_rows",
]

READERS: dict[str, Reader] = {
    "txt": TxtReader(),
    "csv": CsvReader(),
    "tsv": CsvReader(),
    "jsonl": JsonlReader(),
    "json": JsonReader(),
    "parquet": ParquetReader(),
    "arrow": ArrowReader(),
}


def fields_of(file: InputFile) -> list[pa.Field]:
    """A file's columns, with those that its folders' names give.

    Raises:
        InputError: the columns cannot be read.
    """
    own = READERS[file.format].fields(file)
    return [*own, *(pa.field(name, pa.string()) for name, _ in _given(file, own))]


def read_rows(file: InputFile, text: TextColumn, chunk_rows: int) -> Iterator[Chunk]:
    """A file's rows as a stream, with the columns that its folders' names give.

    Raises:
        InputError: the file is damaged.
    """
    reader = READERS[file.format]
    given = _given(file, reader.fields(file)) if file.partition else []
    for chunk in reader.read(file, text, chunk_rows):
        for name, value in given:
            values = pa.array([value] * len(chunk.table), pa.string())
            chunk.table = chunk.table.append_column(name, values)
        yield chunk


def _given(file: InputFile, own: list[pa.Field]) -> list[tuple[str, str | None]]:
    """Columns that the folders' names give and the file itself lacks, with their values."""
    names = {field.name.casefold() for field in own}
    return [(name, value) for name, value in file.partition if name.casefold() not in names]
