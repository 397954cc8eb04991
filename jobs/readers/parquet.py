"""Reader of Parquet."""

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.parquet as pq

from jobs.readers.rows import DAMAGE, SAMPLE_CHARS, BadRow, Chunk, damaged, open_file, text_problem
from jobs.specs import InputFile
from mtl_core.errors import InputError


class ParquetReader:
    """Parquet; columns keep their types."""

    def _file(self, file: InputFile) -> pq.ParquetFile:
        try:
            if file.compression == "gzip":
                with open_file(file) as stream:
                    return pq.ParquetFile(pa.py_buffer(stream.read()))
            return pq.ParquetFile(file.path)
        except (pa.ArrowException, *DAMAGE) as error:
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
            raise damaged(file, row, error) from error


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
