"""Comparing a finished output with its input, read again: every carried column of every row."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from jobs.input.source import NumberedChunk, Source, open_source, read_source
from jobs.label.columns import conform
from jobs.label.fitting import fitted, known_rows
from jobs.label.known import NewRows
from jobs.output.generations import generations_of
from jobs.output.layout import read_manifest
from jobs.output.manifest import Generation, Input, Manifest
from mtl_core.errors import InputError
from mtl_core.files import file_sha256
from mtl_core.storage.address import local_path
from mtl_core.storage.parquet import EMBEDDING, ROW_ID, output_columns
from mtl_core.storage.place import Place
from mtl_core.tasks import Task

MOST_SHOWN = 10
SHOWN_CHARACTERS = 60


def verify_input(
    output: Place, given: Sequence[str] = (), generation: int | None = None
) -> list[str]:
    """Read the input again and compare it with the output, row by row in the order of ``row_id``.

    Both are read as streams: memory is a chunk of each, one byte for each row, and 16 for each that
    a later generation may have left out by its id. A row in ``errors/`` counts as compared, because
    the output does not hold its columns.

    Args:
        given: where the input's files lie now, in the job's order; empty: where the job read them.
        generation: compare this one alone; None: all.
    Returns:
        a line for each difference, with file and row; at most MOST_SHOWN of them, and then a line
        that says how many more there are.
    Raises:
        InputError: the input has gone or cannot be read, or ``given`` has not as many files as the
            job.
    """
    whole, manifest = read_manifest(output), read_manifest(output, generation)
    files = _files(manifest, given)
    found = Differences()
    for file in files:
        if file_sha256(Path(file.path)) != file.sha256:
            found.add(f"{file.name} has changed since the job (checksum differs)")
    aside = _set_aside(output, whole)
    labelled = _Labelled(output, [part.part for part in manifest.parts])
    rows = 0
    for each in generations_of(manifest):
        own = [file for file in files if file.generation == each.number]
        source, numbered_rows = _rows_of(output, whole, each, own)
        for numbered in numbered_rows:
            rows += len(numbered.row_ids) + len(numbered.bad_row_ids)
            if not _compare(source, numbered, aside, labelled, found):
                return found.lines()
    total = manifest.rows.total
    if rows < total and not manifest.relabels:  # whose errors are in no part
        found.add(f"{files[-1].name}: the input ends after {rows:,} rows of {total:,}")
    return found.lines()


def _rows_of(
    output: Place, whole: Manifest, generation: Generation, files: Sequence[Input]
) -> tuple[Source, Iterable[NumberedChunk]]:
    """The input of one generation, and its rows as the job numbered them."""
    taken = output_columns(
        [Task(n, labels) for n, labels in whole.model.tasks.items()],
        typicality=whole.has_typicality,
    )
    columns = whole.text_columns or (whole.text_column,)
    source = open_source(files, columns, taken, whole.limit)
    if generation.number == 1:
        return source, read_source(source)
    source, column = fitted(source, output, whole), whole.id_column
    known = known_rows(source, output, whole, column, generation.number) if column else None
    return source, NewRows(source, generation.first_row_id, known)


def _files(manifest: Manifest, given: Sequence[str]) -> list[Input]:
    files = list(manifest.inputs)
    if given and len(given) != len(files):
        names = ", ".join(Path(file.name).name for file in files)
        raise InputError(f"{len(given)} files are given, but the job's input is {names}")
    for index, path in enumerate(given):
        here = {"path": str(local_path(path).absolute()), "origin": ""}
        files[index] = files[index].model_copy(update=here)
    for file in files:
        if not Path(file.path).is_file():
            raise InputError(
                f"{file.name}: the job's input is not there; give its files behind the output, "
                "in the job's order"
            )
    return files


def _set_aside(output: Place, manifest: Manifest) -> NDArray[np.bool_]:
    """Which rows of the input are in ``errors/``, bool [rows]."""
    aside = np.zeros(manifest.rows.total, dtype=bool)
    for entry in manifest.errors:
        with output.reading(entry.file) as path, pq.ParquetFile(path) as file:
            for batch in file.iter_batches(columns=[ROW_ID]):
                ids = batch.column(0).to_numpy()
                aside[ids[(ids >= 0) & (ids < len(aside))]] = True
    return aside


@dataclass
class Differences:
    """Counts all differences, and keeps the first MOST_SHOWN lines about them."""

    count: int = 0
    shown: list[str] = field(default_factory=list)

    def add(self, line: str, count: int = 1) -> None:
        """Take note of a difference; or of several of one kind, where the line names the first."""
        self.count += count
        if len(self.shown) < MOST_SHOWN:
            self.shown.append(line)

    def lines(self) -> list[str]:
        """The lines kept, and one that says how many more differences there are."""
        more = self.count - len(self.shown)
        return [*self.shown, *([f"and {more:,} more differences"] if more > 0 else [])]


class _Labelled:
    """The labelled rows of all parts as one stream, from which any number can be taken."""

    def __init__(self, output: Place, parts: Sequence[str]) -> None:
        self._batches = self._read(output, parts)
        self._rest: pa.Table | None = None

    def _read(self, output: Place, parts: Sequence[str]) -> Iterator[pa.Table]:
        for part in parts:
            with output.reading(part) as path, pq.ParquetFile(path) as file:
                names = [name for name in file.schema_arrow.names if name != EMBEDDING]
                for batch in file.iter_batches(columns=names):
                    yield pa.Table.from_batches([batch])

    def take(self, rows: int) -> list[pa.Table]:
        """The next rows, as tables one behind another; fewer rows at the stream's end."""
        taken: list[pa.Table] = []
        while rows:
            table = self._rest if self._rest is not None else next(self._batches, None)
            if table is None:
                break
            taken.append(table.slice(0, rows))
            self._rest = table.slice(rows) if len(table) > rows else None
            rows -= len(taken[-1])
        return taken


def _compare(
    source: Source,
    numbered: NumberedChunk,
    aside: NDArray[np.bool_],
    labelled: _Labelled,
    found: Differences,
) -> bool:
    """Compare a chunk of the input with the output.

    Returns:
        whether the rows behind it can still be compared.
    """
    name, ids = numbered.file.name, numbered.row_ids
    for bad, row_id in zip(numbered.chunk.bad, numbered.bad_row_ids, strict=True):
        if row_id >= len(aside) or not aside[row_id]:
            found.add(f"{name}:{bad.row} cannot be labelled ({bad.reason}), but is not in errors/")
    rows = np.asarray(numbered.chunk.rows)
    if len(ids) and ids[-1] >= len(aside):
        found.add(f"{name}:{rows[ids >= len(aside)][0]} and what follows is not in the output")
        return False
    kept = np.flatnonzero(~aside[ids])
    expected, start = conform(source, numbered).take(pa.array(kept)), 0
    for table in labelled.take(len(kept)):
        here = expected.slice(start, len(table))
        where = [f"{name}:{row}" for row in rows[kept[start : start + len(table)]]]
        start += len(table)
        unlike = here.column(ROW_ID).to_numpy() != table.column(ROW_ID).to_numpy()
        if unlike.any():
            found.add(f"{where[int(np.argmax(unlike))]} is not where it should be in the output")
            return False
        _compare_columns(here, table, where, found)
    if start < len(kept):
        found.add(f"{name}:{rows[kept[start]]} and what follows is not in the output")
    return start == len(kept)


def _compare_columns(
    expected: pa.Table, written: pa.Table, where: Sequence[str], found: Differences
) -> None:
    for column in expected.column_names[1:]:
        if column == EMBEDDING:  # of an output labelled anew; `_Labelled` does not read it
            continue
        if column not in written.column_names:
            found.add(f"{where[0]}: column '{column}' is not in the output")
            continue
        ours, theirs = expected.column(column), written.column(column)
        if ours.type == theirs.type and ours.equals(theirs):
            continue
        for place, a, b in zip(where, ours.to_pylist(), theirs.to_pylist(), strict=True):
            if not _same(a, b):
                found.add(
                    f"{place}: column '{column}' is {_short(a)} in the input, {_short(b)} in the "
                    "output"
                )


def _same(one: Any, other: Any) -> bool:
    """Whether two values are equal; NaN equals NaN, in lists and fields, too."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)) and isinstance(other, (list, tuple)):
        return len(one) == len(other) and all(map(_same, one, other))
    return bool(one == other) or (one != one and other != other)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}…"
