"""Rows of vectors divided into cells, such that near rows share one."""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from jobs.vectors.copies.threads import side_by_side

CELLS_PER_ROOT = 2.5
"""Cells for N rows: so many times the square root of N. Then assigning rows to cells and comparing
them within cells take about as long."""
SAMPLE_PER_CELL = 12
PROBES = 4
"""A row is compared with the rows of its nearest cells, so many of them."""
BLOCK_ROWS = 4096
PIVOTS = 64
ROTATION_ROWS = 20_000
SKETCH = 64
"""Cells and first comparisons look at so many leading numbers of rotated vectors."""


@dataclass(frozen=True)
class Cell:
    """Rows near one centre."""

    home: NDArray[np.int64]
    """Those to which no other centre is nearer, int64."""
    members: NDArray[np.int64]
    """Those to which it is one of the nearest :data:`PROBES`, int64; those at home first."""


def rotate(units: NDArray[np.float16]) -> None:
    """Turn vectors in place, so that their leading numbers tell most of them apart.

    Cosines and distances stay. The distance of the leading numbers of two vectors is at most that
    of the vectors: so most pairs can be ruled out by these alone, and no near pair is lost.

    Args:
        units: float16 [N, E].
    """
    draw = np.random.default_rng(0)
    drawn = np.sort(draw.choice(len(units), min(len(units), ROTATION_ROWS), replace=False))
    if len(drawn) < 2 or units.shape[1] <= SKETCH:
        return
    axes = np.linalg.eigh(np.cov(units[drawn].astype(np.float32), rowvar=False))[1]
    axes = axes[:, ::-1].astype(np.float32)
    for start in range(0, len(units), BLOCK_ROWS):
        block = slice(start, start + BLOCK_ROWS)
        units[block] = units[block].astype(np.float32) @ axes


def cells_of(
    units: NDArray[np.float16], rows: NDArray[np.int64], threshold: float, seed: int = 0
) -> Iterator[Cell]:
    """Divide rows into cells by k-means.

    Of two near rows, one is all but surely at home in a cell of which the other is a member. Of
    rows in the sample that are near copies of each other one is kept, so that a heap of
    near-identical rows does not get most of the centres.

    Args:
        units: vectors at unit length, rotated, float16 [N, E].
        rows: which of them, int64 [M].
        threshold: cosine from which rows are near copies.
    """
    draw = np.random.default_rng(seed)
    wanted = int(CELLS_PER_ROOT * len(rows) ** 0.5)
    size = min(len(rows), SAMPLE_PER_CELL * wanted)
    sample = units[draw.choice(rows, size, replace=False)].astype(np.float32)
    centres = _centres(_thinned(sample, threshold)[:, :SKETCH], wanted)
    nearest = _nearest(units, rows, centres)
    # By cell, and within a cell those at home first.
    ranks = np.broadcast_to(np.arange(nearest.shape[1], dtype=np.int64), nearest.shape)
    order = np.argsort((nearest.astype(np.int64) * PROBES + ranks).ravel(), kind="stable")
    ends = np.cumsum(np.bincount(nearest.ravel(), minlength=len(centres)))
    at_home = np.bincount(nearest[:, 0], minlength=len(centres))
    for number, (end, home) in enumerate(zip(ends.tolist(), at_home.tolist(), strict=True)):
        start = ends[number - 1] if number else 0
        members = rows[order[start:end] // nearest.shape[1]]
        if home and len(members) > 1:
            yield Cell(members[:home], members)


def _nearest(
    units: NDArray[np.float16], rows: NDArray[np.int64], centres: NDArray[np.float32]
) -> NDArray[np.int32]:
    """Each row's nearest centres, the nearest first, int32 [M, P]."""
    halves = np.einsum("ce,ce->c", centres, centres) / 2
    found = np.empty((len(rows), min(PROBES, len(centres))), np.int32)

    def fill(start: int) -> None:
        block = slice(start, start + BLOCK_ROWS)
        close = units[rows[block], :SKETCH].astype(np.float32) @ centres.T - halves
        every = np.arange(len(close))
        for probe in range(found.shape[1]):  # several times faster than argpartition
            found[block, probe] = best = close.argmax(axis=1)
            close[every, best] = -np.inf

    for _ in side_by_side(fill, range(0, len(rows), BLOCK_ROWS)):
        pass
    return found


def _centres(sample: NDArray[np.float32], wanted: int) -> NDArray[np.float32]:
    """Centres of cells, float32 [C, S]; fewer than wanted where the sample is small."""
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning

    count = max(1, min(wanted, len(sample) // 2))
    means = KMeans(count, init="random", n_init=1, max_iter=4, random_state=0)
    with warnings.catch_warnings():
        # Where the sample holds fewer distinct rows, some cells stay empty.
        warnings.simplefilter("ignore", ConvergenceWarning)
        means.fit(sample)
    centres: NDArray[np.float32] = means.cluster_centers_
    return centres


def _thinned(sample: NDArray[np.float32], threshold: float) -> NDArray[np.float32]:
    """A sample without the rows of great heaps, but one for each heap."""
    heaps = heaps_of(sample, threshold, np.random.default_rng(0))
    _, firsts = np.unique(heaps, return_index=True)
    alone = np.flatnonzero(heaps < 0)
    kept = np.union1d(alone, firsts[heaps[firsts] >= 0])
    return sample[kept]


def heaps_of(
    vectors: NDArray[np.floating], threshold: float, draw: np.random.Generator
) -> NDArray[np.int64]:
    """Put together rows that hang together by a few drawn rows, the pivots.

    A row with many near rows has all but surely a pivot among them. So what is left over has few
    near rows, and comparing it with all rows finds few pairs.

    Args:
        vectors: at unit length, [N, E].
        threshold: the cosine from which a row is near a pivot.
    Returns:
        a number for each row, equal for rows of one heap, -1 for those near no pivot, int64 [N].
    """
    from scipy.sparse.csgraph import connected_components

    chosen = draw.choice(len(vectors), min(PIVOTS, len(vectors)), replace=False)
    pivots = vectors[chosen].astype(np.float32).T
    found = np.full(len(vectors), -1)
    shared = np.zeros((len(chosen), len(chosen)), np.float32)
    for start in range(0, len(vectors), BLOCK_ROWS):
        block = slice(start, start + BLOCK_ROWS)
        near = vectors[block].astype(np.float32) @ pivots >= threshold
        found[block] = np.where(near.any(axis=1), near.argmax(axis=1), -1)
        both = near[near.sum(axis=1) > 1].astype(np.float32)
        shared += both.T @ both
    heaps = connected_components(shared > 0, directed=False)[1]
    return np.where(found >= 0, heaps[found], -1)
