"""Find which rows hang together by near pairs, without comparing all pairs.

Rows are divided into cells such that near rows share one (:mod:`jobs.vectors.copies.cells`), and
compared within their cells. Rows that lie in a great heap are put together by a few pivots first:
neither memory nor time grows with the square of a heap.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from jobs.vectors.copies.cells import BLOCK_ROWS, SKETCH, cells_of, heaps_of, rotate
from jobs.vectors.copies.threads import side_by_side

DIRECT_ROWS = 4096
"""In a cell of at most so many rows all pairs are compared."""
DIRECT_PAIRS = 400_000_000
"""In a larger one, the rows left over by the heaps are compared with all rows, up to so many
pairs; else it is divided again."""
MOST_DIVISIONS = 4
SPARSE = 8
"""Up to so many pairs a row that a sketch does not rule out are looked at one by one."""
ROUNDING = 1e-3
"""Of numbers in float16."""

Edges = NDArray[np.int64]
"""Pairs of rows that belong together, int64 [2, M]."""


def components(units: NDArray[np.float16], threshold: float, edges: Edges) -> NDArray[np.int64]:
    """A number for each row, equal for rows that hang together by near pairs, int64 [N].

    Args:
        units: vectors at unit length, float16 [N, E]; they are rotated in place.
        threshold: the cosine from which two rows are a near pair.
        edges: further pairs that belong together.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    count = len(units)
    rotate(units)
    first, second = np.concatenate([edges, *_links(units, np.arange(count), threshold)], axis=1)
    graph = coo_array((np.ones(len(first), np.int8), (first, second)), (count, count))
    found: NDArray[np.int64] = connected_components(graph, directed=False)[1].astype(np.int64)
    return found


def _links(
    units: NDArray[np.float16], rows: NDArray[np.int64], threshold: float, depth: int = 0
) -> Iterator[Edges]:
    """Pairs by which the rows hang together; not all near pairs."""
    if len(rows) <= DIRECT_ROWS:
        yield _direct(units, rows, rows, threshold)
        return
    heaps = heaps_of(units[rows], threshold, np.random.default_rng(depth))
    inside = np.flatnonzero(heaps >= 0)
    _, firsts, which = np.unique(heaps[inside], return_index=True, return_inverse=True)
    yield np.stack([rows[inside], rows[inside[firsts[which]]]])
    greatest = np.bincount(heaps[inside]).argmax() if len(inside) else -2
    left_over = rows[heaps != greatest]
    if len(left_over) * len(rows) <= DIRECT_PAIRS or depth >= MOST_DIVISIONS:
        yield from _across(units, left_over, rows, threshold)
        return
    great = []

    def small() -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
        for cell in cells_of(units, rows, threshold, depth):
            if len(cell.members) <= DIRECT_ROWS:
                yield cell.home, cell.members
            else:
                great.append(cell.members)

    yield from side_by_side(lambda cell: _direct(units, cell[0], cell[1], threshold), small())
    for members in great:
        yield from _links(units, members, threshold, depth + 1)


def _direct(
    units: NDArray[np.float16],
    home: NDArray[np.int64],
    members: NDArray[np.int64],
    threshold: float,
) -> Edges:
    """Pairs by which rows hang together, each of the first compared with all the others.

    Args:
        members: begin with ``home``.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    near = near_pairs(units[members], len(home), threshold)
    own = np.arange(len(home))
    near[own, own] = False
    linked = np.flatnonzero(near.any(axis=1))
    if not len(linked):
        return np.zeros((2, 0), np.int64)
    near, firsts = near[linked], near[linked].argmax(axis=1)
    # Where many rows are near each other, all pairs would be many more than are needed.
    graph = coo_array((np.ones(len(linked), np.int8), (linked, firsts)), (len(members),) * 2)
    joined = connected_components(graph, directed=False)[1]
    one, other = np.nonzero(near & (joined[linked, None] != joined[own]))
    pairs = [np.concatenate([linked, linked[one]]), np.concatenate([firsts, other])]
    found: Edges = members[np.stack(pairs)]
    return found


def near_pairs(vectors: NDArray[np.float16], first: int, threshold: float) -> NDArray[np.bool_]:
    """Which of the vectors are near which of the first of them, bool [M, first].

    Args:
        vectors: at unit length, rotated, float16 [M, E].
    """
    sketch = vectors[:, :SKETCH].astype(np.float32)
    halves = np.einsum("me,me->m", sketch, sketch) / 2
    # |a - b|² of unit vectors is 2 - 2 cosine, and that of their sketches is not more.
    products = sketch @ sketch[:first].T
    products -= halves[:, None]
    near: NDArray[np.bool_] = products >= halves[:first] - (1 - threshold) - ROUNDING
    one, other = np.nonzero(near)
    if len(one) > SPARSE * len(vectors):
        whole = vectors.astype(np.float32)
        near = whole @ whole[:first].T >= threshold
    else:
        cosines = np.einsum(
            "pe,pe->p", vectors[one].astype(np.float32), vectors[other].astype(np.float32)
        )
        near[one, other] = cosines >= threshold
    return near


def _across(
    units: NDArray[np.float16], some: NDArray[np.int64], rows: NDArray[np.int64], threshold: float
) -> Iterator[Edges]:
    """All near pairs of some rows with all rows."""
    own = units[some].astype(np.float32).T
    step = max(1, BLOCK_ROWS * BLOCK_ROWS // max(1, len(some)))
    for start in range(0, len(rows), step):
        block = rows[start : start + step]
        one, other = np.nonzero(units[block].astype(np.float32) @ own >= threshold)
        yield np.stack([block[one], some[other]])
