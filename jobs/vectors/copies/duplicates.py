"""Equal and near-equal texts of an output, by their embeddings, and labels that contradict."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from jobs.output.manifest import Manifest
from jobs.output.rows import batches
from jobs.vectors.copies.ends import COSINE, alike_at_an_end
from jobs.vectors.copies.links import Edges, components
from jobs.vectors.copies.signs import cosines_meant, threshold_between
from jobs.vectors.copies.stored import StoredVectors, fetch_rows, read_vectors, vectors_manifest
from mtl_core.storage.parquet import ROW_ID
from mtl_core.storage.place import Place

THRESHOLD = 0.95
"""Least cosine of near-equal texts."""
SHOWN_GROUPS = 10
SHOWN_MEMBERS = 4


@dataclass(frozen=True)
class Member:
    """A row of a group."""

    row_id: int
    text: str
    cosine: float
    """With the first row of the group."""
    values: dict[str, str | None]
    """Its labels, and its value of the column given."""


@dataclass(frozen=True)
class Group:
    """Rows that hang together by near-equal texts."""

    first_row_id: int
    size: int
    contradicts: tuple[str, ...]
    """Tasks, and the column given, whose values differ within the group."""
    members: tuple[Member, ...]
    """A few of its rows."""


@dataclass(frozen=True)
class Duplicates:
    """The near-equal texts of an output."""

    rows: int
    threshold: float
    row_ids: NDArray[np.int64]
    """Rows in groups, by group and within a group by ``row_id``, int64 [M]."""
    groups: NDArray[np.int64]
    """The group of each of them, from 0, in the order of their first rows, int64 [M]."""
    cosines: NDArray[np.float32]
    """Of each of them with the first row of its group, float32 [M]."""
    contradictions: dict[str, NDArray[np.bool_]]
    """By task or column, whether its values differ within each group, bool [G]."""
    shown: tuple[Group, ...] = field(default=())
    """A few groups: those that contradict first, then the greatest."""

    @property
    def starts(self) -> NDArray[np.int64]:
        """Where each group begins in ``row_ids``, int64 [G]."""
        found: NDArray[np.int64] = np.flatnonzero(np.diff(self.groups, prepend=-1))
        return found

    @property
    def sizes(self) -> NDArray[np.int64]:
        """Rows of each group, int64 [G]."""
        return np.bincount(self.groups)

    @property
    def later(self) -> NDArray[np.int64]:
        """All rows of groups but the first of each, ascending, int64."""
        return np.sort(np.delete(self.row_ids, self.starts))

    def as_json(self) -> dict[str, Any]:
        """The public JSON of ``mtl duplicates --json``."""
        return {
            "rows": self.rows,
            "threshold": self.threshold,
            "groups": len(self.starts),
            "rows_in_groups": len(self.row_ids),
            "later_rows": len(self.row_ids) - len(self.starts),
            "contradictions": {
                name: int(found.sum()) for name, found in self.contradictions.items()
            },
            "shown": [asdict(group) for group in self.shown],
        }

    def as_table(self) -> pa.Table:
        """All rows in groups: ``row_id``, ``group``, ``group_size``, ``first_row_id``, ``cosine``
        with the first row, and ``contradicts``, the names of what differs within the group."""
        names = list(self.contradictions)
        differ = zip(*(found.tolist() for found in self.contradictions.values()), strict=True)
        said = [[n for n, d in zip(names, each, strict=True) if d] for each in differ]
        contradicts = pa.array(said or [[] for _ in self.starts], pa.list_(pa.string()))
        return pa.table(
            {
                "row_id": self.row_ids,
                "group": self.groups,
                "group_size": self.sizes[self.groups],
                "first_row_id": self.row_ids[self.starts][self.groups],
                "cosine": self.cosines,
                "contradicts": contradicts.take(pa.array(self.groups)),
            }
        )


def find_duplicates(
    output: Place,
    threshold: float = THRESHOLD,
    by: str | None = None,
    shown: int = SHOWN_GROUPS,
    stored: StoredVectors | None = None,
    generation: int | None = None,
) -> Duplicates:
    """Find the groups of near-equal texts in a finished output.

    Rows whose cosine is at least the threshold are in one group, rows that begin or end with the
    same words (:mod:`jobs.vectors.copies.ends`), and rows that hang together by others. Memory: two
    bytes for each number of the embeddings, and some 120 a row.

    Args:
        threshold: least cosine, above 0, at most 1.
        by: a carried column whose values should agree within a group, as labels made by hand.
        shown: how many groups are given with their texts.
        stored: embeddings of the rows to look among; all rows, if not given.
        generation: look in this one alone; None: in all.
    Raises:
        InputError: the output has no embeddings or no such column, or a part has gone.
    """
    manifest = vectors_manifest(output, by, generation)
    stored = stored or read_vectors(output, manifest)
    rows = len(stored.row_ids)
    own = threshold_between(manifest.embedding, threshold)
    least = threshold_between(manifest.embedding, min(COSINE, threshold))
    alike = alike_at_an_end(stored.ends, stored.units, least)
    edges = np.concatenate([equal_rows(stored), alike], axis=1)
    labels = components(stored.units, own, edges)
    ids, groups, cosines = _grouped(stored, labels)
    cosines = cosines_meant(manifest.embedding, cosines)
    del stored
    names = [*([by] if by else []), *manifest.model.tasks]
    differ = _contradictions(output, manifest, ids, groups, names)
    found = Duplicates(rows, threshold, ids, groups, cosines, differ)
    return replace(found, shown=tuple(_shown(output, manifest, found, names, shown)))


def equal_rows(stored: StoredVectors) -> Edges:
    """Pairs of rows with equal embeddings, each with the first such row, int64 [2, M]."""
    _, firsts, which = np.unique(stored.keys, return_index=True, return_inverse=True)
    rows = np.arange(len(stored.keys))
    again = rows != firsts[which]
    return np.stack([rows[again], firsts[which[again]]])


def _grouped(
    stored: StoredVectors, labels: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    """``row_ids``, ``groups`` and ``cosines`` of :class:`Duplicates`."""
    inside = np.flatnonzero(np.bincount(labels)[labels] > 1) if len(labels) else labels
    inside = inside[np.argsort(stored.row_ids[inside], kind="stable")]
    _, first, which = np.unique(labels[inside], return_index=True, return_inverse=True)
    numbers = np.argsort(np.argsort(first))[which]
    order = np.argsort(numbers, kind="stable")
    rows, firsts = inside[order], inside[first[which]][order]
    cosines = np.empty(len(rows), np.float32)
    for start in range(0, len(rows), 8192):
        block = slice(start, start + 8192)
        pair = (stored.units[each[block]].astype(np.float32) for each in (rows, firsts))
        cosines[block] = np.einsum("ne,ne->n", *pair)
    cosines[rows == firsts] = 1
    return stored.row_ids[rows], numbers[order], np.clip(cosines, -1, 1)


def _contradictions(
    output: Place,
    manifest: Manifest,
    ids: NDArray[np.int64],
    groups: NDArray[np.int64],
    names: Sequence[str],
) -> dict[str, NDArray[np.bool_]]:
    """By column, whether its values differ within each group, bool [G]; null is no value."""
    count = int(groups[-1]) + 1 if len(groups) else 0
    order = np.argsort(ids)
    known, group_of = ids[order], groups[order]
    codes: dict[str, dict[str, int]] = {name: {} for name in names}
    seen = {name: np.full(count, -1) for name in names}
    differ = {name: np.zeros(count, bool) for name in names}
    for batch in batches(output, manifest, {ROW_ID, *names}) if count else ():
        here = batch.filter(pc.is_in(batch[ROW_ID], pa.array(known)))
        group = group_of[np.searchsorted(known, here[ROW_ID].to_numpy())]
        for name in names:
            numbers = codes[name]
            for at, value in zip(group.tolist(), here[name].to_pylist(), strict=True):
                if value is None:
                    continue
                code = numbers.setdefault(str(value), len(numbers))
                if seen[name][at] < 0:
                    seen[name][at] = code
                elif seen[name][at] != code:
                    differ[name][at] = True
    return differ


def _shown(
    output: Place, manifest: Manifest, found: Duplicates, names: Sequence[str], most: int
) -> list[Group]:
    """Groups with their texts: those that contradict first, of these the greatest first."""
    sizes, starts = found.sizes, found.starts
    # The column given weighs more than all tasks together: it was asked for.
    weight = sum(
        (differ.astype(int) * 2 ** (len(names) - place)
         for place, differ in enumerate(found.contradictions.values())),
        np.zeros(len(sizes), int),
    )  # fmt: skip
    chosen = np.lexsort((-sizes, -weight))[:most]
    rows = {one: _members(found, int(starts[one]), int(sizes[one])) for one in chosen.tolist()}
    ids = [int(found.row_ids[row]) for members in rows.values() for row in members]
    columns = {manifest.text_column, *names}
    values = fetch_rows(output, manifest, ids, columns)
    groups = []
    for one, members in rows.items():
        said = tuple(
            _member(values[int(found.row_ids[row])], manifest, float(found.cosines[row]), names)
            for row in members
        )
        differs = tuple(name for name, differ in found.contradictions.items() if differ[one])
        groups.append(Group(int(found.row_ids[starts[one]]), int(sizes[one]), differs, said))
    return groups


def _members(found: Duplicates, start: int, size: int) -> list[int]:
    """The rows shown of a group: the first, and those least like it."""
    others = np.argsort(found.cosines[start + 1 : start + size], kind="stable")
    return [start, *(start + 1 + others[: SHOWN_MEMBERS - 1]).tolist()]


def _member(row: dict[str, Any], manifest: Manifest, cosine: float, names: Sequence[str]) -> Member:
    values = {name: None if row[name] is None else str(row[name]) for name in names}
    return Member(int(row[ROW_ID]), str(row[manifest.text_column]), cosine, values)
