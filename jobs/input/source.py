"""One set of columns over all input files, and their rows as one stream."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from jobs.input.columns import Columns, written_names
from jobs.input.readers import (
    Chunk,
    TextColumn,
    columns_of,
    fields_of,
    inner_fields,
    read_rows,
)
from jobs.input.text_column import find_text_column, text_path
from jobs.specs import InputFile
from mtl_core.errors import InputError
from mtl_core.storage.parquet import OF_ENCODER, ROW_ID


@dataclass(frozen=True)
class Source:
    """Checked input: files, the column to label, and the columns carried through."""

    files: tuple[InputFile, ...]
    text: TextColumn
    fields: tuple[pa.Field, ...]
    """All columns of all files, as they will be written, the text column among them."""
    names: Mapping[str, str]
    """The name under which each of the user's columns is written."""
    limit: int | None = None
    """Read this many of the first rows only."""
    notes: tuple[str, ...] = ()
    """What the user should know of how columns were found and are written."""

    @property
    def text_columns(self) -> tuple[str, ...]:
        """The text columns, as a user would name them."""
        return tuple(".".join(path) for path in self.text.paths)

    @property
    def text_column(self) -> str:
        """The output's column that holds the text."""
        return self.names[self.text.name]

    @property
    def renamed(self) -> list[tuple[str, str]]:
        """Columns that are written under another name, with that name."""
        return [(name, written) for name, written in self.names.items() if name != written]


def open_source(
    files: Sequence[InputFile],
    text_columns: Sequence[str],
    taken: set[str],
    limit: int | None = None,
) -> Source:
    """Read the columns of all files and settle which hold the text.

    Args:
        text_columns: as the user gave them; empty: the one column is to be found.
        taken: names that the output needs; such a column is carried as ``input_<name>``.
        limit: read this many of the first rows only.
    Raises:
        InputError: an unreadable file, a missing column, or files whose columns do not fit.
    """
    columns = Columns()
    nested: dict[str, dict[str, bool]] = {}
    described = [(file, fields_of(file)) for file in files]
    for file, fields in described:
        columns.add(file, fields)
        for own in fields:
            nested.setdefault(own.name, {}).update(inner_fields(own))
    types, notes = columns.types(), _left_out(files) + columns.notes
    if not text_columns:
        name, note = find_text_column(files, types, nested)
        text_columns = [name]
        notes += [note] if note else []
    text = _text_of(described, text_columns)
    for made in text.field():
        if made.name in types:
            raise InputError(
                f"{columns.first_file(made.name)}: the joined text would be column '{made.name}', "
                "but there is one of that name; rename it"
            )
        types[made.name] = made.type
    if pa.types.is_null(types[text.name]):
        types[text.name] = pa.string()
    stored = {name for file in files for name in file.kept if name in OF_ENCODER}
    names = written_names(types, frozenset(taken - stored))
    written = tuple(pa.field(names[n], kind) for n, kind in types.items())
    return Source(tuple(files), text, written, names, limit, tuple(notes))


def _left_out(files: Sequence[InputFile]) -> list[str]:
    """Notes for the user on csv and tsv columns without name and value, which are left out."""
    counts = [(f.name, len(columns_of(f).empty)) for f in files if f.format in ("csv", "tsv")]
    return [
        f"{name}: left out {count} column{'s' * (count > 1)} without name and content"
        for name, count in counts
        if count
    ]


def _text_of(
    described: Sequence[tuple[InputFile, Sequence[pa.Field]]], text_columns: Sequence[str]
) -> TextColumn:
    """Where the text is, by the names of its columns; it must be the same in all files.

    Raises:
        InputError: it is not, or a file has no such column.
    """
    found: list[TextColumn] = []
    for file, fields in described:
        own_names = {field.name for field in fields} - dict(file.partition).keys()
        own_fields = [field for field in fields if field.name in own_names]
        found.append(TextColumn(tuple(text_path(file, own_fields, n) for n in text_columns)))
        if found[-1] != found[0]:
            raise InputError(f"{file.name}: has columns where the other files have nested fields")
    return found[0]


@dataclass(frozen=True)
class NumberedChunk:
    """A chunk of one file with its rows' ids over the whole input."""

    file: InputFile
    chunk: Chunk
    row_ids: NDArray[np.int64]
    """Ids of the good rows, int64 [N]."""
    bad_row_ids: NDArray[np.int64]
    """Ids of the bad rows, int64 [M]."""


def read_source(source: Source, chunk_rows: int = 4096) -> Iterator[NumberedChunk]:
    """Read all files as a stream, in order; ``row_id`` counts rows from 0 over all files.

    Parts of an output that is labelled anew say themselves which ``row_id`` a row has.

    Bad rows have ids too, so that labelled and bad rows together hold every id once.

    Raises:
        InputError: a file is damaged, so that no row behind the damage can be read.
    """
    offset = 0
    for file in source.files:
        rows, own = 0, _own_ids(file)
        for chunk in read_rows(file, source.text, chunk_rows):
            chunk = _first_rows(chunk, source.limit, offset)
            good = np.asarray(chunk.rows, dtype=np.int64) + (offset - 1)
            bad = np.asarray([row.row for row in chunk.bad], dtype=np.int64) + (offset - 1)
            rows += len(good) + len(bad)
            if own is not None:
                good, bad = own[good - offset], own[bad - offset]
            yield NumberedChunk(file, chunk, good, bad)
            if source.limit is not None and offset + rows >= source.limit:
                return
        offset += rows


def _own_ids(file: InputFile) -> NDArray[np.int64] | None:
    """The ids that a file's rows have already, int64 [rows]; None: they have none."""
    if not file.kept:
        return None
    with pq.ParquetFile(file.path) as opened:
        ids: NDArray[np.int64] = opened.read([ROW_ID]).column(ROW_ID).to_numpy()
    return ids


def _first_rows(chunk: Chunk, limit: int | None, offset: int) -> Chunk:
    """The rows of a chunk that lie within the limit on all rows.

    Args:
        offset: how many rows the files before the chunk's file have.
    """
    if limit is None:
        return chunk
    rows = [row for row in chunk.rows if row + offset <= limit]
    bad = [row for row in chunk.bad if row.row + offset <= limit]
    return Chunk(chunk.table.slice(0, len(rows)), rows, bad)
