"""Readers of txt, csv and tsv."""

import csv
import io
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import pyarrow as pa

from jobs.readers.rows import (
    DAMAGE,
    Chunk,
    RowBuffer,
    TextColumn,
    damaged,
    open_file,
    printable,
    text_problem,
    unpaired,
)
from jobs.specs import InputFile
from mtl_core.errors import InputError

csv.field_size_limit(min(sys.maxsize, 2**31 - 1))


class TxtReader:
    """A sentence a line."""

    def fields(self, file: InputFile) -> list[pa.Field]:
        return [pa.field("text", pa.string())]

    def read(self, file: InputFile, text: TextColumn, chunk_rows: int) -> Iterator[Chunk]:
        rows = RowBuffer(self.fields(file), chunk_rows)
        try:
            with open_file(file) as stream:
                for line, raw in enumerate(stream, start=1):
                    raw = raw.removeprefix(b"\xef\xbb\xbf") if line == 1 else raw
                    raw = raw.rstrip(b"\r\n")
                    try:
                        sentence = raw.decode("utf-8")
                    except UnicodeDecodeError as error:
                        rows.bad(line, f"not UTF-8 at byte {error.start + 1}", printable(raw))
                    else:
                        problem = text_problem(sentence)
                        if problem:
                            rows.bad(line, problem, sentence)
                        else:
                            rows.good((sentence,))
                    if rows.full:
                        yield rows.take()
        except DAMAGE as error:
            raise damaged(file, rows.row, error) from error
        yield rows.take()


class CsvReader:
    """Comma- or otherwise separated values with a header line, quoted by RFC 4180."""

    @contextmanager
    def _reading(self, file: InputFile) -> Iterator[Any]:
        # Bytes that are no UTF-8 come through as surrogates and are found row by row.
        with (
            open_file(file) as stream,
            io.TextIOWrapper(stream, "utf-8-sig", errors="surrogateescape", newline="") as text,
        ):
            yield csv.reader(text, delimiter=file.delimiter)

    def fields(self, file: InputFile) -> list[pa.Field]:
        try:
            with self._reading(file) as reader:
                header: list[str] = next(reader, [])
        except (*DAMAGE, csv.Error) as error:
            raise InputError(f"{file.name}: its header cannot be read ({error})") from error
        if not header:
            raise InputError(f"{file.name}: no header line; the first line must name the columns")
        if unpaired(*header):
            raise InputError(f"{file.name}: its header is not UTF-8")
        repeated = sorted({name for name in header if header.count(name) > 1})
        if repeated:
            raise InputError(f"{file.name}: column '{repeated[0]}' is named twice in the header")
        return [pa.field(name, pa.string()) for name in header]

    def read(self, file: InputFile, text: TextColumn, chunk_rows: int) -> Iterator[Chunk]:
        fields = self.fields(file)
        rows = RowBuffer([*fields, *text.field()], chunk_rows)
        names = [f.name for f in fields]
        try:
            with self._reading(file) as reader:
                next(reader)
                while (values := _next_row(reader)) is not None:
                    line = reader.line_num
                    if isinstance(values, csv.Error):
                        rows.bad(line, f"not readable as a row: {values}", "")
                    elif values:  # a blank line is no row
                        _sort_in(rows, dict(zip(names, values, strict=False)), values, line, text)
                    if rows.full:
                        yield rows.take()
        except DAMAGE as error:
            raise damaged(file, rows.row, error) from error
        yield rows.take()


def _sort_in(
    rows: RowBuffer, record: dict[str, str], values: list[str], line: int, text: TextColumn
) -> None:
    width = len(rows.fields) - text.derived
    found = text.of(record) if len(values) == width else " ".join(values)
    shown = str(found)
    if unpaired(*values):
        rows.bad(line, "not UTF-8", printable(shown.encode("utf-8", "surrogateescape")))
    elif len(values) != width:
        rows.bad(line, f"{len(values)} fields, the header has {width}", shown)
    elif problem := text_problem(found):
        rows.bad(line, problem, shown)
    else:
        rows.good([*values, found] if text.derived else values)


def _next_row(reader: Any) -> list[str] | csv.Error | None:
    try:
        return cast("list[str] | None", next(reader, None))
    except csv.Error as error:
        return error
