"""Rows drawn from two outputs, to compare what came in."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from jobs.output.manifest import Manifest
from jobs.output.rows import batches, vectors_of
from jobs.vectors.blocks import unit
from jobs.vectors.copies.duplicates import THRESHOLD
from jobs.vectors.copies.links import components
from jobs.vectors.copies.signs import threshold_between
from mtl_core.errors import InputError
from mtl_core.storage.parquet import EMBEDDING, EMBEDDING_SCALE, ROW_ID, typicality_column
from mtl_core.storage.place import Place

NONE = "(none)"
"""Stands for a label, or a value of a column, that a row does not have."""


@dataclass(frozen=True)
class Sample:
    """Rows of two outputs, those of the old one first."""

    row_ids: NDArray[np.int64]
    """int64 [N]."""
    texts: Sequence[str]
    new: NDArray[np.bool_]
    """Whether a row is of the new output, bool [N]."""
    units: NDArray[np.float32]
    """Embeddings at unit length, float32 [N, E]."""
    numbers: dict[str, NDArray[np.float32]]
    """Scores and typicality by column, float32 [N]."""
    values: dict[str, Sequence[str]]
    """Labels by task, and the values of a carried column."""

    def take(self, rows: NDArray[np.int64]) -> "Sample":
        """Some of the rows."""
        return Sample(
            self.row_ids[rows],
            [self.texts[row] for row in rows.tolist()],
            self.new[rows],
            self.units[rows],
            {name: column[rows] for name, column in self.numbers.items()},
            {name: [column[row] for row in rows.tolist()] for name, column in self.values.items()},
        )


def draw_sample(
    outputs: tuple[Place, Place],
    manifests: tuple[Manifest, Manifest],
    rows: int,
    by: str | None,
    seed: int,
) -> Sample:
    """Draw rows of two outputs at random; memory grows with the rows drawn alone.

    Args:
        rows: how many of each; fewer where it has fewer.
        by: a carried column to look at, too.
    Raises:
        InputError: an output has no row, or a part has gone.
    """
    tasks = list(manifests[0].model.tasks)
    numbers = [f"{task}_score" for task in tasks]
    if all(manifest.has_typicality for manifest in manifests):
        numbers += [typicality_column(task) for task in tasks]
    values = [*tasks, *([by] if by else [])]
    sides: list[pa.Table] = []
    vectors: list[NDArray[np.float32]] = []
    for number, (output, manifest) in enumerate(zip(outputs, manifests, strict=True)):
        text = manifest.text_column
        columns = {ROW_ID, text, EMBEDDING, EMBEDDING_SCALE, *numbers, *values}
        draw = np.random.default_rng((seed, number))
        table, found = _drawn(output, manifest, columns, rows, draw)
        vectors.append(found)
        names = [ROW_ID, *numbers]
        plain = [table[name].cast(pa.string()).fill_null(NONE) for name in (text, *values)]
        sides.append(pa.table([*(table[n] for n in names), *plain], [*names, "", *values]))
    both = pa.concat_tables(sides)
    return Sample(
        both[ROW_ID].to_numpy(),
        both[""].to_pylist(),
        np.repeat([False, True], [len(side) for side in sides]),
        unit(np.concatenate(vectors)),
        {name: both[name].to_numpy() for name in numbers},
        {name: both[name].to_pylist() for name in values},
    )


def _drawn(
    output: Place, manifest: Manifest, columns: set[str], rows: int, draw: np.random.Generator
) -> tuple[pa.Table, NDArray[np.float32]]:
    count = sum(part.rows for part in manifest.parts)
    if not count:
        raise InputError(f"{output} has no labelled row to compare")
    wanted = np.sort(draw.choice(count, min(count, rows), replace=False))
    tables, vectors, offset = [], [], 0
    for batch in batches(output, manifest, columns):
        here = wanted[(wanted >= offset) & (wanted < offset + len(batch))] - offset
        offset += len(batch)
        if len(here):
            some = batch.take(pa.array(here))
            vectors.append(vectors_of(some, manifest.embedding))
            there = [n for n in (EMBEDDING, EMBEDDING_SCALE) if n in some.column_names]
            tables.append(some.drop_columns(there))
    return pa.concat_tables(tables, promote_options="permissive"), np.concatenate(vectors)


def without_copies(sample: Sample, form: str, seed: int = 0) -> Sample:
    """Of near-equal rows of one side, one drawn at random.

    Rows that are copies of each other are not independent: a classifier that has seen one knows
    the others, and a single text sent a hundred times would look like a hundred new ones.

    Args:
        form: how the embeddings are stored.
    """
    least = threshold_between(form, THRESHOLD)
    none = np.zeros((2, 0), np.int64)
    groups = components(sample.units.astype(np.float16), least, none)
    order = np.random.default_rng(seed).permutation(len(groups))
    _, firsts = np.unique((groups * 2 + sample.new)[order], return_index=True)
    return sample.take(np.sort(order[firsts]))
