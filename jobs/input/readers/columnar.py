"""Readers of Parquet and Arrow: columns keep their types."""

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.ipc
import pyarrow.parquet as pq

from jobs.input.readers.carried import carried_fields, carry
from jobs.input.readers.rows import (
    DAMAGE,
    SAMPLE_CHARS,
    BadRow,
    Chunk,
    TextColumn,
    damaged,
    in_words,
    open_file,
    printable,
    text_problem,
)
from jobs.specs import InputFile
from mtl_core.errors import InputError


class ParquetReader:
    """Reads Parquet files."""

    def _file(self, file: InputFile) -> pq.ParquetFile:
        try:
            if file.compression != "none":
                with open_file(file) as stream:
                    return pq.ParquetFile(pa.py_buffer(stream.read()))
            return pq.ParquetFile(file.path)
        except (pa.ArrowException, *DAMAGE) as error:
            raise InputError(
                f"{file.name}: not a readable Parquet file ({in_words(error)})"
            ) from error

    def fields(self, file: InputFile) -> list[pa.Field]:
        schema = self._file(file).schema_arrow
        if file.kept:
            schema = pa.schema([field for field in schema if field.name in file.kept])
        return carried_fields(file.name, schema)

    def read(self, file: InputFile, text: TextColumn, chunk_rows: int) -> Iterator[Chunk]:
        columns = list(file.kept) or None
        batches = self._file(file).iter_batches(batch_size=chunk_rows, columns=columns)
        yield from _read(file, self.fields(file), batches, text, chunk_rows)


class ArrowReader:
    """Reads Arrow's file format (Feather) and its stream format (which `datasets` saves)."""

    def _open(self, file: InputFile) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
        try:
            if file.compression == "none":
                source = pa.memory_map(file.path)
            else:
                with open_file(file) as stream:
                    source = pa.BufferReader(stream.read())
            try:
                whole = pa.ipc.open_file(source)
            except pa.ArrowInvalid:
                source.seek(0)
                stream_reader = pa.ipc.open_stream(source)
                return stream_reader.schema, iter(stream_reader)
            batches = (whole.get_batch(i) for i in range(whole.num_record_batches))
            return whole.schema, batches
        except (pa.ArrowException, *DAMAGE) as error:
            raise InputError(
                f"{file.name}: not a readable Arrow file ({in_words(error)})"
            ) from error

    def fields(self, file: InputFile) -> list[pa.Field]:
        return carried_fields(file.name, self._open(file)[0])

    def read(self, file: InputFile, text: TextColumn, chunk_rows: int) -> Iterator[Chunk]:
        yield from _read(file, self.fields(file), self._open(file)[1], text, chunk_rows)


def _read(
    file: InputFile,
    fields: list[pa.Field],
    batches: Iterator[pa.RecordBatch],
    text: TextColumn,
    chunk_rows: int,
) -> Iterator[Chunk]:
    row = 0
    try:
        for batch in batches:
            whole = pa.Table.from_batches([batch]).replace_schema_metadata(None)
            for start in range(0, len(whole), chunk_rows):
                table = whole.slice(start, chunk_rows)
                invalid = _invalid_rows(table)
                yield _split_bad(table, fields, text, row, invalid)
                row += len(table)
    except (pa.ArrowException, *DAMAGE) as error:
        raise damaged(file, row, error) from error


def _invalid_rows(table: pa.Table) -> dict[int, str]:
    """Rows that hold bytes which are no UTF-8 in a column of text, each with the reason.

    Raises:
        ArrowInvalid: the table is invalid in another way, so that it is not safe to look at any
            value of it.
    """
    try:
        table.validate(full=True)
        return {}
    except pa.ArrowInvalid:
        pass
    found = {}
    for row in range(len(table)):
        for name, column in zip(table.column_names, table.columns, strict=True):
            try:
                column.slice(row, 1).validate(full=True)
            except pa.ArrowInvalid as error:
                if "UTF8" not in str(error):
                    raise
                found[row] = f"column '{name}' is not UTF-8"
    return found


def _split_bad(
    table: pa.Table, fields: list[pa.Field], text: TextColumn, offset: int, invalid: dict[int, str]
) -> Chunk:
    rows = [row for row in range(len(table)) if row not in invalid]
    valid = table if not invalid else table.take(pa.array(rows, pa.int64()))
    columns = [
        carry(column, field.type) for column, field in zip(valid.columns, fields, strict=True)
    ]
    carried = pa.table(columns, schema=pa.schema(fields))
    texts = _texts(carried, text)
    if text.derived:
        made = [own if isinstance(own, str) else None for own in texts]
        carried = carried.append_column(text.field()[0], pa.array(made, pa.string()))
    bad = [
        BadRow(offset + row + 1, None, reason, _shown(table, text, row))
        for row, reason in invalid.items()
    ]
    problems = {index: found for index, own in enumerate(texts) if (found := text_problem(own))}
    bad += [
        BadRow(offset + rows[index] + 1, None, problem, str(texts[index] or "")[:SAMPLE_CHARS])
        for index, problem in problems.items()
    ]
    if not bad:
        return Chunk(carried, range(offset + 1, offset + 1 + len(table)))
    good = [index for index in range(len(rows)) if index not in problems]
    taken = carried.take(pa.array(good, pa.int64()))
    return Chunk(taken, [offset + rows[i] + 1 for i in good], sorted(bad, key=lambda b: b.row))


def _texts(table: pa.Table, text: TextColumn) -> list[object]:
    """Every row's text; the value found there if it is no text."""
    parts = []
    for first, *inner in text.paths:
        column = table.column(first)
        for name in inner:
            column = pc.struct_field(column, name)
        parts.append(column.to_pylist())
    return [text.joined(values) for values in zip(*parts, strict=True)]


def _shown(table: pa.Table, text: TextColumn, row: int) -> str:
    """What can be shown of the text of an invalid row."""
    value = table.column(text.paths[0][0]).slice(row, 1)
    if not (pa.types.is_string(value.type) or pa.types.is_large_string(value.type)):
        return ""
    plain = pa.binary() if pa.types.is_string(value.type) else pa.large_binary()
    return printable(value.cast(plain)[0].as_py() or b"")
