"""The nearest rows by looking at every one: exact, and nothing has to be set up for it."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from jobs.output.manifest import Manifest
from jobs.output.where import Condition
from jobs.vectors.blocks import Block, Stretch, blocks_of, by_part, stretches
from mtl_core.storage.place import Place


@dataclass(frozen=True)
class Nearest:
    """The nearest rows of Q queries, nearest first; fewer than K where there are no more."""

    cosines: NDArray[np.float32]
    """float32 [Q, K]."""
    rows: NDArray[np.int64]
    """Rows by their number through the parts, int64 [Q, K]."""

    @classmethod
    def none(cls, queries: int) -> "Nearest":
        """No row yet."""
        return cls(np.zeros((queries, 0), np.float32), np.zeros((queries, 0), np.int64))

    def joined(self, other: "Nearest", most: int) -> "Nearest":
        """The nearest rows of two."""
        cosines = np.concatenate([self.cosines, other.cosines], axis=1)
        rows = np.concatenate([self.rows, other.rows], axis=1)
        order = np.argsort(-cosines, axis=1, kind="stable")[:, :most]
        return Nearest(
            np.take_along_axis(cosines, order, axis=1), np.take_along_axis(rows, order, axis=1)
        )


def nearest(blocks: Iterable[Block], queries: NDArray[np.float32], most: int) -> Nearest:
    """The nearest of some blocks' rows.

    Args:
        queries: unit vectors, float32 [Q, E].
        most: how many rows a query.
    """
    found = Nearest.none(len(queries))
    for block in blocks:
        cosines = queries @ block.vectors.T
        if cosines.shape[1] > most:
            kept = np.argpartition(-cosines, most - 1, axis=1)[:, :most]
            cosines, rows = np.take_along_axis(cosines, kept, axis=1), block.rows[kept]
        else:
            rows = np.broadcast_to(block.rows, cosines.shape)
        found = found.joined(Nearest(cosines, rows), most)
    return found


def scan(
    output: Place,
    manifest: Manifest,
    queries: NDArray[np.float32],
    most: int,
    where: Condition | None = None,
) -> Nearest:
    """The nearest rows of an output, read from its parts; memory does not grow with the output.

    Args:
        queries: unit vectors, float32 [Q, E].
        most: how many rows a query.
        where: among these rows only.
    Raises:
        InputError: a part has gone, or the condition does not fit the columns.
    """
    read = partial(blocks_of, output, manifest, where=where)

    def look(part: Stretch) -> Nearest:
        return nearest(read(part), queries, most)

    found = Nearest.none(len(queries))
    for each in by_part(look, stretches(manifest)):
        found = found.joined(each, most)
    return found
