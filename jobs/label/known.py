"""Rows that an output holds already, known by their ids, and the rows of new files without them."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from jobs.input.ids import as_ids, hash_of
from jobs.input.readers import SAMPLE_CHARS, BadRow
from jobs.input.source import NumberedChunk, Source, read_source
from jobs.label.columns import carried
from jobs.output.manifest import Manifest
from jobs.output.rows import batches
from jobs.specs import LabelSpec
from mtl_core.errors import InputError
from mtl_core.storage.place import Place

OTHER_TEXT = "a row of this id is in the output already, with another text"


@dataclass(frozen=True)
class KnownRows:
    """Hashes of the ids and texts of an output's rows: 16 bytes a row."""

    column: str
    """The id column, as the output names it."""
    ids: NDArray[np.uint64]
    """Ascending, uint64 [N]."""
    texts: NDArray[np.uint64]
    """Of the same rows, uint64 [N]."""

    def find(
        self, ids: NDArray[np.uint64], texts: NDArray[np.uint64]
    ) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Which of M rows are known, and which of these have another text; bool [M] each."""
        if not len(self.ids):
            return np.zeros(len(ids), bool), np.zeros(len(ids), bool)
        at = np.minimum(np.searchsorted(self.ids, ids), len(self.ids) - 1)
        known = self.ids[at] == ids
        return known, known & (self.texts[at] != texts)


def read_known(output: Place, manifest: Manifest, column: str) -> KnownRows:
    """Read the ids and texts of an output's rows.

    Args:
        column: the id column, as the output names it.
    Raises:
        InputError: it has no such column, or the column does not tell its rows apart.
    """
    if column not in manifest.own_columns:
        raise InputError(
            f"{output}: has no column '{column}', by which its rows could be known; leave "
            "--id-column out, or label all files again into a new folder"
        )
    rows = sum(part.rows for part in manifest.parts)
    ids, texts, at = np.empty(rows, np.uint64), np.empty(rows, np.uint64), 0
    for batch in batches(output, manifest, {column, manifest.text_column}):
        values = as_ids(str(output), batch.column(column), column)
        if None in values or "" in values:
            raise InputError(
                f"{output}: a row has no id in column '{column}'; leave --id-column out"
            )
        here = slice(at, at + len(batch))
        ids[here] = _hashes(values)
        texts[here] = _hashes(_texts(batch.column(manifest.text_column)))
        at += len(batch)
    order = np.argsort(ids, kind="stable")
    ids = ids[order]
    if (ids[1:] == ids[:-1]).any():
        raise InputError(
            f"{output}: column '{column}' has a value twice, so that it does not tell rows apart; "
            "leave --id-column out"
        )
    return KnownRows(column, ids, texts[order])


@dataclass
class Tally:
    """Counts the rows of new files."""

    new: int = 0
    skipped: int = 0
    """In the output already, with the same text."""
    changed: int = 0
    """In the output already, with another text."""
    bad: int = 0
    """Rows that cannot be labelled, those of ``changed`` apart."""


@dataclass
class NewRows:
    """The rows of files without those that are known, numbered on from a ``row_id``.

    A known row with another text becomes a bad row.
    """

    source: Source
    first_row_id: int = 0
    known: KnownRows | None = None
    tally: Tally = field(default_factory=Tally)

    def __iter__(self) -> Iterator[NumberedChunk]:
        first = self.first_row_id
        for numbered in read_source(self.source):
            self.tally.bad += len(numbered.chunk.bad)
            left = numbered if self.known is None else self._without_known(numbered, self.known)
            self.tally.new += len(left.chunk.rows)
            left = _from(left, first)
            first += len(left.row_ids) + len(left.bad_row_ids)
            yield left

    def _without_known(self, numbered: NumberedChunk, known: KnownRows) -> NumberedChunk:
        chunk = numbered.chunk
        id_field, text_field = map(self._field, (known.column, self.source.text_column))
        texts = _texts(carried(self.source, numbered, text_field))
        ids = as_ids(numbered.file.name, carried(self.source, numbered, id_field), known.column)
        there, other = known.find(_hashes(ids), _hashes(texts))
        self.tally.skipped += int((there & ~other).sum())
        self.tally.changed += int(other.sum())
        kept = np.flatnonzero(~there).tolist()
        bad = [_changed(chunk.rows[row], str(texts[row])) for row in np.flatnonzero(other).tolist()]
        left = replace(
            chunk,
            table=chunk.table.filter(pa.array(~there)),
            rows=[chunk.rows[row] for row in kept],
            bad=sorted([*chunk.bad, *bad], key=lambda row: row.row),
        )
        return replace(numbered, chunk=left)

    def _field(self, written: str) -> pa.Field:
        return next(each for each in self.source.fields if each.name == written)


def rows_of(source: Source, spec: LabelSpec, known: KnownRows | None) -> Iterator[NumberedChunk]:
    """The rows that a job labels, numbered as it writes them."""
    return iter(NewRows(source, spec.first_row_id, known)) if spec.appends else read_source(source)


def _changed(row: int, text: str) -> BadRow:
    return BadRow(row, None, OTHER_TEXT, text[:SAMPLE_CHARS])


def _from(numbered: NumberedChunk, first: int) -> NumberedChunk:
    """The chunk with its rows, good and bad, numbered from ``first`` in their order."""
    good = np.asarray(numbered.chunk.rows, np.int64)
    bad = np.asarray([row.row for row in numbered.chunk.bad], np.int64)
    order = np.sort(np.concatenate([good, bad]))
    return replace(
        numbered,
        row_ids=first + np.searchsorted(order, good),
        bad_row_ids=first + np.searchsorted(order, bad),
    )


def _texts(column: pa.ChunkedArray) -> list[str | None]:
    texts: list[str | None] = pc.cast(column, pa.large_string()).to_pylist()
    return texts


def _hashes(values: list[str | None]) -> NDArray[np.uint64]:
    return np.fromiter(map(hash_of, values), np.uint64, len(values))
