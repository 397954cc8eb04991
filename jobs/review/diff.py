"""What changed from one output to another of the same input."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from jobs.output.layout import read_manifest, require_finished
from jobs.output.manifest import Manifest
from jobs.output.rows import batches, columns_of
from jobs.review.reviewed import ReviewedRow
from mtl_core.errors import InputError
from mtl_core.storage.parquet import ROW_ID
from mtl_core.storage.place import Place
from mtl_core.suggest import near_hint

EXAMPLES = 5
"""Changed rows shown of a task."""
SLICES = 20
"""Values of a column told apart; the most frequent ones."""
UNKNOWN = -2
"""Code of a row that the output does not hold; a row without a label has -1."""


@dataclass(frozen=True)
class Change:
    """A row whose label changed."""

    row_id: int
    text: str
    before: str
    after: str


@dataclass
class TaskDiff:
    """What changed in one task's labels."""

    task: str
    labels: Sequence[str]
    """All labels that it has in either output."""
    rows: int = 0
    """Rows that both outputs hold."""
    kept: Counter[str] = field(default_factory=Counter)
    """Rows by label, of those that did not change; empty: none."""
    flips: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Rows by label before and after, of those that changed; empty: none."""
    slices: dict[str, tuple[int, int]] = field(default_factory=dict)
    """By value of a carried column: changed rows, and rows."""
    examples: list[Change] = field(default_factory=list)
    checked: int = 0
    """Changed rows that were checked by hand."""
    corrected: int = 0
    """Of these, those that are right now."""
    spoilt: int = 0
    """Of these, those that were right before."""

    @property
    def changed(self) -> int:
        """How many rows changed."""
        return self.flips.total()

    def as_json(self) -> dict[str, Any]:
        """The public JSON of ``mtl diff --json``."""
        flips = [{"before": a, "after": b, "rows": n} for (a, b), n in self.flips.most_common()]
        return {**asdict(self), "changed": self.changed, "flips": flips, "kept": dict(self.kept)}


def diff(
    before: Place, after: Place, by: str | None = None, reviewed: Sequence[ReviewedRow] = ()
) -> list[TaskDiff]:
    """Compare the labels of two outputs of the same input, row by row.

    Memory is one or two bytes a row and task.

    Args:
        by: a carried column of ``after``, whose values the changes are counted by.
        reviewed: rows checked by hand.
    Raises:
        InputError: an output is none, they share no task or hold other texts, or no such column.
    """
    for output in (before, after):
        require_finished(output)
    manifests = read_manifest(before), read_manifest(after)
    tasks = _shared_tasks(manifests)
    known = _labels_by_row(before, manifests[0], tasks)
    found = {task: TaskDiff(task, labels) for task, labels in tasks.items()}
    right = {row.row_id: row.labels for row in reviewed}
    if by is not None and by not in (names := columns_of(after, manifests[1])):
        raise InputError(f"{after}: no column '{by}'{near_hint(by, names)}")
    columns = {ROW_ID, manifests[1].text_column, *tasks, *([by] if by else [])}
    met, most = 0, manifests[0].rows.total
    for batch in batches(after, manifests[1], columns):
        ids = batch[ROW_ID].to_numpy()
        inside = ids < most
        batch, ids = batch.filter(pa.array(inside)), ids[inside]
        for task, each in found.items():
            old = known[task][ids]
            met += int((old != UNKNOWN).sum())
            _compare(each, batch, old, manifests[1].text_column, by, right)
    if not met:
        raise InputError(f"{before} and {after} share no row; they were made of other inputs")
    for each in found.values():
        ordered = sorted(each.slices.items(), key=lambda item: -item[1][1])
        each.slices = dict(ordered[:SLICES])
    return list(found.values())


def _shared_tasks(manifests: tuple[Manifest, Manifest]) -> dict[str, list[str]]:
    """The tasks of both outputs, each with all labels that it has in either."""
    first, second = (manifest.model.tasks for manifest in manifests)
    shared = {
        task: list(dict.fromkeys([*first[task], *second[task]])) for task in second if task in first
    }
    if not shared:
        raise InputError(
            f"the outputs share no task: {', '.join(first)} before, {', '.join(second)} after"
        )
    return shared


def _codes(column: pa.ChunkedArray, labels: Sequence[str]) -> NDArray[np.int16]:
    """Places of labels in a list, -1 for none, int16 [N]."""
    places = pc.index_in(column.cast(pa.string()), pa.array(labels, pa.string()))
    codes: NDArray[np.int16] = pc.fill_null(places, -1).to_numpy().astype(np.int16)
    return codes


def _labels_by_row(
    output: Place, manifest: Manifest, tasks: Mapping[str, Sequence[str]]
) -> dict[str, NDArray[np.int16]]:
    """By task, the code of each row's label by ``row_id``, int16 [greatest id + 1]."""
    found = {task: np.full(manifest.rows.total, UNKNOWN, np.int16) for task in tasks}
    for batch in batches(output, manifest, {ROW_ID, *tasks}):
        ids = batch[ROW_ID].to_numpy()
        for task, labels in tasks.items():
            found[task][ids] = _codes(batch[task], labels)
    return found


def _compare(
    found: TaskDiff,
    batch: pa.Table,
    old: NDArray[np.int16],
    text_column: str,
    by: str | None,
    right: Mapping[int, Mapping[str, str]],
) -> None:
    """Count a batch's changes into a task's."""
    new = _codes(batch[found.task], found.labels)
    both = old != UNKNOWN
    changed = np.flatnonzero(both & (old != new))
    names = [*found.labels, ""]  # -1 is the last one
    found.rows += int(both.sum())
    pairs = Counter(zip(old[changed].tolist(), new[changed].tolist(), strict=True))
    for (before, after), count in pairs.items():
        found.flips[names[before], names[after]] += count
    codes, counts = np.unique(old[both & (old == new)], return_counts=True)
    for code, count in zip(codes.tolist(), counts.tolist(), strict=True):
        found.kept[names[code]] += count
    if by is not None:
        _slice(found, [str(value) for value in batch[by].to_pylist()], both, changed)
    ids = batch[ROW_ID].to_numpy()
    for row in changed.tolist():
        before, after = names[old[row]], names[new[row]]
        if len(found.examples) < EXAMPLES:
            text = str(batch[text_column][row].as_py())
            found.examples.append(Change(int(ids[row]), text, before, after))
        if truth := right.get(int(ids[row]), {}).get(found.task):
            found.checked += 1
            found.corrected += truth == after
            found.spoilt += truth == before


def _slice(
    found: TaskDiff, values: Sequence[str], both: NDArray[np.bool_], changed: NDArray[np.intp]
) -> None:
    """Count a batch's rows, and those that changed, by a column's values."""
    for value, count in Counter(values[row] for row in np.flatnonzero(both).tolist()).items():
        had = found.slices.get(value, (0, 0))
        found.slices[value] = (had[0], had[1] + count)
    for value, count in Counter(values[row] for row in changed.tolist()).items():
        had = found.slices[value]
        found.slices[value] = (had[0] + count, had[1])
