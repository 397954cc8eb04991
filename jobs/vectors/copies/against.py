"""Rows of one output that are near rows of another: leaks from training into test, rows seen last
week."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import chain
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from jobs.output.manifest import Manifest
from jobs.vectors.copies.cells import BLOCK_ROWS, PIVOTS, cells_of, rotate
from jobs.vectors.copies.ends import COSINE, alike_at_an_end
from jobs.vectors.copies.links import DIRECT_PAIRS, DIRECT_ROWS, MOST_DIVISIONS, near_pairs
from jobs.vectors.copies.signs import cosines_meant, threshold_between
from jobs.vectors.copies.stored import fetch_rows, read_vectors, vectors_manifest
from jobs.vectors.copies.threads import side_by_side
from mtl_core.errors import InputError
from mtl_core.storage.place import Place

SHOWN = 10

Found = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]
"""Rows, a row of the other output near each, and their cosines, [M] each."""


@dataclass(frozen=True)
class Match:
    """A row and the row of another output that it is near."""

    row_id: int
    other_row_id: int
    cosine: float
    text: str
    other_text: str


@dataclass(frozen=True)
class Matches:
    """The rows of an output that are near rows of another."""

    rows: int
    threshold: float
    row_ids: NDArray[np.int64]
    """Ascending, int64 [M]."""
    other_row_ids: NDArray[np.int64]
    """A near row of the other output for each of them, int64 [M]. Nearest as a rule; within heaps
    of near-identical rows, one of them."""
    cosines: NDArray[np.float32]
    """float32 [M]."""
    shown: tuple[Match, ...]
    """A few of them, spread from the least cosine to the greatest."""

    def as_json(self) -> dict[str, Any]:
        """The public JSON of ``mtl duplicates --against --json``."""
        return {
            "rows": self.rows,
            "threshold": self.threshold,
            "near_rows": len(self.row_ids),
            "shown": [asdict(match) for match in self.shown],
        }

    def as_table(self) -> pa.Table:
        """All of them: ``row_id``, ``other_row_id``, ``cosine``."""
        return pa.table(
            {"row_id": self.row_ids, "other_row_id": self.other_row_ids, "cosine": self.cosines}
        )


def find_matches(
    output: Place,
    other: Place,
    threshold: float,
    shown: int = SHOWN,
    generation: int | None = None,
) -> Matches:
    """Find the rows of an output that are near a row of another, or begin or end as one does.

    Memory: as :func:`jobs.vectors.copies.duplicates.find_duplicates`, for both outputs together.

    Args:
        threshold: least cosine, above 0, at most 1.
        shown: how many are given with their texts.
        generation: of the first output this one alone; None: all.
    Raises:
        InputError: one has no embeddings, they are of other models or forms, or a part has gone.
    """
    first, second = vectors_manifest(output, generation=generation), vectors_manifest(other)
    require_comparable(output, first, other, second)
    own, others = read_vectors(output, first), read_vectors(other, second)
    count = len(own.row_ids)
    ids = np.concatenate([own.row_ids, others.row_ids])
    units = np.concatenate([own.units, others.units]) if len(others.row_ids) else own.units
    ends = np.concatenate([own.ends, others.ends])
    del own, others
    best = np.full(count, -1)
    cosine = np.full(count, -2, np.float32)
    if count and len(units) > count:
        least = threshold_between(first.embedding, min(COSINE, threshold))
        alike = _alike(units, count, ends, least)
        rotate(units)
        least = threshold_between(first.embedding, threshold)
        found_near = _matches(units, count, np.arange(len(units)), least)
        for rows, near, found in chain([alike], found_near):
            order = np.argsort(found, kind="stable")
            rows, near, found = rows[order], near[order], found[order]
            better = found > cosine[rows]
            best[rows[better]], cosine[rows[better]] = near[better], found[better]
    rows = np.flatnonzero(best >= 0)
    rows = rows[np.argsort(ids[rows], kind="stable")]
    said = np.clip(cosines_meant(first.embedding, cosine[rows]), -1, 1)
    matched = (ids[rows], ids[best[rows]], said)
    texts = _texts((output, first), (other, second), matched, shown)
    return Matches(count, threshold, *matched, tuple(texts))


def _alike(units: NDArray[np.float16], count: int, ends: NDArray[np.uint64], least: float) -> Found:
    """Own rows that begin or end as a row of the other output does."""
    one, other = alike_at_an_end(ends, units, least)
    across = (one < count) != (other < count)
    return _pairs(units, one[across], other[across])


def require_comparable(one: Place, first: Manifest, other: Place, second: Manifest) -> None:
    """Raise InputError unless two outputs' embeddings can be compared."""
    if first.model.sha256 != second.model.sha256:
        raise InputError(
            f"{one} and {other} were made by other models ({first.model.name}, "
            f"{second.model.name}); label one of them anew by the other's model (`mtl relabel`)"
        )
    if "binary" in (first.embedding, second.embedding) and first.embedding != second.embedding:
        raise InputError(
            f"the embeddings of {one} are {first.embedding}, those of {other} {second.embedding}; "
            "signs compare with signs alone"
        )


def _matches(
    units: NDArray[np.float16],
    count: int,
    rows: NDArray[np.int64],
    threshold: float,
    depth: int = 0,
) -> Iterator[Found]:
    """Near pairs of own rows, below ``count``, with others; every own row with one has one."""
    own, others = rows[rows < count], rows[rows >= count]
    if not len(own) or not len(others):
        return
    if len(rows) <= DIRECT_ROWS:
        yield _direct(units, count, rows, rows, threshold)
        return
    yield (first := _by_pivots(units, own, others, threshold, depth))
    own = np.setdiff1d(own, first[0])
    if len(own) * len(others) <= DIRECT_PAIRS or depth >= MOST_DIVISIONS:
        step = max(1, BLOCK_ROWS * BLOCK_ROWS // max(1, len(own)))
        for start in range(0, len(others), step):
            yield _across(units, own, others[start : start + step], threshold)
        return
    great = []

    def small() -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
        for cell in cells_of(units, np.concatenate([own, others]), threshold, depth):
            if len(cell.members) <= DIRECT_ROWS:
                yield cell.home, cell.members
            else:
                great.append(cell.members)

    yield from side_by_side(
        lambda cell: _direct(units, count, cell[0], cell[1], threshold), small()
    )
    for members in great:
        yield from _matches(units, count, members, threshold, depth + 1)


def _by_pivots(
    units: NDArray[np.float16],
    own: NDArray[np.int64],
    others: NDArray[np.int64],
    threshold: float,
    seed: int,
) -> Found:
    """Own rows near one of a few others; that does with a heap of near-identical rows."""
    draw = np.random.default_rng(seed)
    pivots = draw.choice(others, min(PIVOTS, len(others)), replace=False)
    starts = range(0, len(own), BLOCK_ROWS)
    found = [_across(units, own[at : at + BLOCK_ROWS], pivots, threshold) for at in starts]
    rows, near, cosines = (np.concatenate(each) for each in zip(*found, strict=True))
    return rows, near, cosines


def _direct(
    units: NDArray[np.float16],
    count: int,
    home: NDArray[np.int64],
    members: NDArray[np.int64],
    threshold: float,
) -> Found:
    """All near pairs of a cell with one row on each side."""
    near = near_pairs(units[members], len(home), threshold)
    near &= (members < count)[:, None] != (home < count)
    one, other = np.nonzero(near)
    return _pairs(units, members[one], home[other])


def _across(
    units: NDArray[np.float16],
    own: NDArray[np.int64],
    others: NDArray[np.int64],
    threshold: float,
) -> Found:
    """For each of some rows that has one, its nearest of others."""
    cosines = units[own].astype(np.float32) @ units[others].astype(np.float32).T
    best = cosines.argmax(axis=1) if len(own) else np.zeros(0, np.int64)
    found = cosines[np.arange(len(own)), best]
    near = found >= threshold
    return own[near], others[best[near]], found[near]


def _pairs(units: NDArray[np.float16], one: NDArray[np.int64], other: NDArray[np.int64]) -> Found:
    """Pairs with the own row first, and their cosines; at most one for each own row and cell."""
    own, others = np.minimum(one, other), np.maximum(one, other)
    cosines = np.einsum("pe,pe->p", units[own].astype(np.float32), units[others].astype(np.float32))
    order = np.lexsort((-cosines, own))
    kept = order[np.diff(own[order], prepend=-1) != 0]
    return own[kept], others[kept], cosines[kept]


def _texts(
    one: tuple[Place, Manifest], other: tuple[Place, Manifest], found: Found, most: int
) -> list[Match]:
    ids, other_ids, cosines = found
    order = np.argsort(cosines, kind="stable")
    places = np.unique(np.linspace(0, len(order) - 1, min(most, len(order))).astype(int))
    chosen = order[places] if len(order) else order
    texts = []
    for (output, manifest), wanted in ((one, ids), (other, other_ids)):
        rows = fetch_rows(output, manifest, wanted[chosen].tolist(), {manifest.text_column})
        texts.append({key: str(row[manifest.text_column]) for key, row in rows.items()})
    return [
        Match(a, b, cosine, texts[0][a], texts[1][b])
        for a, b, cosine in zip(
            ids[chosen].tolist(), other_ids[chosen].tolist(), cosines[chosen].tolist(), strict=True
        )
    ]
