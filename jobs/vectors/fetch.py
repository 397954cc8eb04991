"""Whole rows of an output, by their numbers."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from jobs.output.manifest import Manifest
from jobs.output.rows import located, opened, vectors_of
from jobs.vectors.blocks import Stretch, by_part, stretches, unit
from mtl_core.errors import InputError
from mtl_core.storage.parquet import EMBEDDING, EMBEDDING_SCALE, ROW_ID
from mtl_core.storage.place import Place


@dataclass(frozen=True)
class FoundRow:
    """A row of an output."""

    values: Mapping[str, Any]
    """By column; all but the embedding."""
    vector: NDArray[np.float32]
    """Its embedding at unit length, float32 [E]."""


def fetch(output: Place, manifest: Manifest, rows: NDArray[np.int64]) -> dict[int, FoundRow]:
    """Read rows by their numbers through the parts; only the row groups that hold them are read.

    Raises:
        InputError: a part has gone.
    """
    wanted = np.unique(rows)

    def of_part(part: Stretch) -> dict[int, FoundRow]:
        here = wanted[(wanted >= part.first) & (wanted < part.first + part.rows)]
        found: dict[int, FoundRow] = {}
        with located(output, part.name) as path, pq.ParquetFile(path) as file:
            first = part.first
            for group in range(file.num_row_groups):
                size = file.metadata.row_group(group).num_rows
                inside = here[(here >= first) & (here < first + size)]
                if len(inside):
                    table = file.read_row_group(group, use_threads=False).take(inside - first)
                    found.update(zip(inside.tolist(), _rows(table, manifest), strict=True))
                first += size
        return found

    ends = np.searchsorted(wanted, [(p.first, p.first + p.rows) for p in stretches(manifest)])
    with_some = [p for p, (a, b) in zip(stretches(manifest), ends, strict=True) if b > a]
    return {row: each for some in by_part(of_part, with_some) for row, each in some.items()}


def _rows(table: pa.Table, manifest: Manifest) -> list[FoundRow]:
    vectors = unit(vectors_of(table, manifest.embedding))
    names = [name for name in table.column_names if name not in (EMBEDDING, EMBEDDING_SCALE)]
    values = table.select(names).to_pylist()
    return [FoundRow(*each) for each in zip(values, vectors, strict=True)]


def number_of(output: Place, manifest: Manifest, row_id: int) -> int:
    """A row's number through the parts, by its ``row_id``.

    Raises:
        InputError: no labelled row has it.
    """
    for part in stretches(manifest):
        with opened(output, part.name) as file:
            first = part.first
            for group in range(file.num_row_groups):
                ids = file.read_row_group(group, columns=[ROW_ID])[ROW_ID].to_numpy()
                at = np.flatnonzero(ids == row_id)
                if len(at):
                    return first + int(at[0])
                first += len(ids)
    raise InputError(f"row {row_id} is not among the labelled rows of {output}")
