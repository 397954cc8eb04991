"""Readers of txt, csv, tsv, jsonl and Parquet: streams of good rows and bad rows.

Columns come as they are: csv and tsv columns stay strings (``007`` stays ``007``), Parquet columns
keep their types, jsonl columns get the narrowest of bool, int64, double and string that holds all
their values, anything nested or mixed as JSON text.
"""

from jobs.readers.jsonl import JsonlReader
from jobs.readers.parquet import ParquetReader
from jobs.readers.rows import SAMPLE_CHARS, BadRow, Chunk, Reader, is_text
from jobs.readers.text import CsvReader, TxtReader

__all__ = ["READERS", "SAMPLE_CHARS", "BadRow", "Chunk", "Reader", "is_text"]

READERS: dict[str, Reader] = {
    "txt": TxtReader(),
    "csv": CsvReader(","),
    "tsv": CsvReader("\t"),
    "jsonl": JsonlReader(),
    "parquet": ParquetReader(),
}
