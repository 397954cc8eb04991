"""Readers of txt, csv, tsv, jsonl, Parquet and Arrow: streams of good rows and bad rows.

Columns come as they are: csv and tsv columns stay strings (``007`` stays ``007``), Parquet and
Arrow columns keep their types, jsonl columns get the narrowest of bool, int64, double and string
that holds all their values, anything nested or mixed as JSON text.
"""

from jobs.readers.columnar import ArrowReader, ParquetReader
from jobs.readers.jsonl import JsonlReader
from jobs.readers.rows import (
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
from jobs.readers.text import CsvReader, TxtReader

__all__ = [
    "DAMAGE",
    "OPENERS",
    "READERS",
    "SAMPLE_CHARS",
    "BadRow",
    "Chunk",
    "Reader",
    "TextColumn",
    "inner_fields",
    "is_text",
]

READERS: dict[str, Reader] = {
    "txt": TxtReader(),
    "csv": CsvReader(),
    "tsv": CsvReader(),
    "jsonl": JsonlReader(),
    "parquet": ParquetReader(),
    "arrow": ArrowReader(),
}
