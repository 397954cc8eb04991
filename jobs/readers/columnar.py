"""Readers of Parquet and Arrow: columns keep their types."""

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet as pq

from jobs.readers.rows import (
    DAMAGE,
    SAMPLE_CHARS,
    BadRow,
    Chunk,
    TextColumn,
    damaged,
    open_file,
    text_problem,
)
from jobs.specs import InputFile
from mtl_core.errors import InputError


class ParquetReader:
    """Parquet."""

    def _file(self, file: InputFile) -> pq.ParquetFile:
        try:
            if file.compression != "none":
                with open_file(file) as stream:
                    return pq.ParquetFile(pa.py_buffer(stream.read()))
            return pq.ParquetFile(file.path)
        except (pa.ArrowException, *DAMAGE) as error:
            raise InputError(f"{file.name}: not a readable Parquet file ({error})") from error

    def fields(self, file: InputFile) -> list[pa.Field]:
        return list(self._file(file).schema_arrow.remove_metadata())

    def read(self, file: InputFile, text: TextColumn, chunk_rows: int) -> Iterator[Chunk]:
        batches = self._file(file).iter_batches(batch_size=chunk_rows)
        yield from _read(file, batches, text, chunk_rows)


class ArrowReader:
    """Arrow's file format (Feather) and its stream format (as `datasets` saves)."""

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
            raise InputError(f"{file.name}: not a readable Arrow file ({error})") from error

    def fields(self, file: InputFile) -> list[pa.Field]:
        return list(self._open(file)[0].remove_metadata())

    def read(self, file: InputFile, text: TextColumn, chunk_rows: int) -> Iterator[Chunk]:
        yield from _read(file, self._open(file)[1], text, chunk_rows)


def _read(
    file: InputFile, batches: Iterator[pa.RecordBatch], text: TextColumn, chunk_rows: int
) -> Iterator[Chunk]:
    row = 0
    try:
        for batch in batches:
            whole = pa.Table.from_batches([batch]).replace_schema_metadata(None)
            for start in range(0, len(whole), chunk_rows):
                table = whole.slice(start, chunk_rows)
                yield _split_bad(table, text, row)
                row += len(table)
    except (pa.ArrowException, OSError) as error:
        raise damaged(file, row, error) from error


def _split_bad(table: pa.Table, text: TextColumn, offset: int) -> Chunk:
    if text.derived:
        parts = table.select(list(dict.fromkeys(path[0] for path in text.paths)))
        texts = [text.of(record) for record in parts.to_pylist()]
        valid = [found if isinstance(found, str) else None for found in texts]
        table = table.append_column(text.field()[0], pa.array(valid, pa.string()))
    else:
        texts = table.column(text.name).to_pylist()
    bad = [
        BadRow(offset + index + 1, None, problem, str(found or "")[:SAMPLE_CHARS])
        for index, found in enumerate(texts)
        if (problem := text_problem(found))
    ]
    if not bad:
        return Chunk(table, range(offset + 1, offset + 1 + len(table)))
    wrong = {row.row for row in bad}
    good = [row for row in range(offset + 1, offset + 1 + len(table)) if row not in wrong]
    return Chunk(table.take([row - offset - 1 for row in good]), good, bad)
