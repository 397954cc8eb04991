"""What a finished output holds, gathered from its Parquet alone.

Parts are read as streams of batches; what is kept is counts, the few rows shown, and a sample of
embeddings, so memory does not grow with the output.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from jobs.output.layout import read_manifest, require_finished
from jobs.output.manifest import Manifest
from jobs.output.rows import BATCH_ROWS, batches, opened, vectors_of
from mtl_core.storage.parquet import (
    EMBEDDING,
    EMBEDDING_SCALE,
    ROW_ID,
    TRUNCATED,
    typicality_column,
)
from mtl_core.storage.place import Place

SHOWN_ROWS = 15
SHOWN_CHARACTERS = 240
MAP_ROWS = 2000
SCORE_BINS = 20
"""The first one ends at 0.05, where a row's typicality begins to be usual."""
UNTYPICAL_ROWS = 10
NO_LABEL = "(none)"
"""Stands for a label that `--abstain-below` or `--min-typicality` left out."""


@dataclass(frozen=True)
class ShownRow:
    """A row as the page shows it."""

    row_id: int
    text: str
    labels: tuple[str, ...]
    """One for each task."""
    number: float
    """The number for which the row is shown: a score, or a length in characters."""


class Top:
    """Keeps, of all rows offered, those with the least or the greatest numbers; at most ``size``.

    Of rows with equal texts, one is kept.
    """

    def __init__(self, size: int, *, greatest: bool = False) -> None:
        self.size, self._sign = size, -1 if greatest else 1
        self.rows: list[ShownRow] = []
        """The rows kept, the best first."""

    def offer(
        self,
        rows: NDArray[np.int64],
        numbers: NDArray[Any],
        shown: Callable[[int, float], ShownRow],
    ) -> None:
        """Take rows of a batch into account, and keep the best.

        Args:
            rows: which rows of the batch.
            numbers: what each row of the batch is ordered by, [N].
            shown: makes the row to keep, given its place in the batch and its number.
        """
        for row in rows[np.argsort(self._sign * numbers[rows], kind="stable")]:
            number = float(numbers[row])
            if len(self.rows) == self.size and self._rank(self.rows[-1]) <= self._sign * number:
                break
            one = shown(int(row), number)
            if all(one.text != other.text for other in self.rows):
                self.rows = sorted([*self.rows, one], key=self._rank)[: self.size]

    def _rank(self, row: ShownRow) -> float:
        return self._sign * row.number


def _greatest() -> Top:
    return Top(SHOWN_ROWS, greatest=True)


@dataclass
class TaskFacts:
    """One task's labels over the whole output."""

    name: str
    labels: list[str]
    counts: Counter[str] = field(default_factory=Counter)
    scores: NDArray[np.int64] = field(default_factory=lambda: np.zeros(SCORE_BINS, np.int64))
    """Rows by score, int64 [SCORE_BINS], equal bins from 0 to 1."""
    unsure: Top = field(default_factory=lambda: Top(SHOWN_ROWS))
    typicality: NDArray[np.int64] = field(default_factory=lambda: np.zeros(SCORE_BINS, np.int64))
    """Rows by typicality, int64 [SCORE_BINS], equal bins from 0 to 1; zero without statistics."""
    untypical: Top = field(default_factory=lambda: Top(UNTYPICAL_ROWS))
    """The rows least typical of the task."""

    @property
    def unlike(self) -> int:
        """Rows unlike the texts trained on; the first bin ends where they do."""
        return int(self.typicality[0])


@dataclass
class ReportFacts:
    """All that the page shows."""

    manifest: Manifest
    tasks: list[TaskFacts]
    cross: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Rows by the labels of the first two tasks."""
    longest: Top = field(default_factory=_greatest)
    truncated: Top = field(default_factory=_greatest)
    reasons: list[tuple[str, int]] = field(default_factory=list)
    """Why rows could not be labelled, the most frequent first."""
    errors: list[dict[str, Any]] = field(default_factory=list)
    """A few of those rows: row_id, file, row, reason, text."""
    sample: list[ShownRow] = field(default_factory=list)
    points: NDArray[np.float64] = field(default_factory=lambda: np.zeros((0, 2)))
    """The sample's embeddings on their two principal components, float64 [M, 2]."""
    vectors: NDArray[np.float32] = field(default_factory=lambda: np.zeros((0, 0), np.float32))
    """The sample's embeddings, float32 [M, E]; none without embeddings."""
    numbers: dict[str, list[float]] = field(default_factory=dict)
    """The sample's scores and typicality, by column."""


def gather(output: Place, generation: int | None = None) -> ReportFacts:
    """Gather the facts of a finished output.

    Args:
        generation: of this one alone; None: of all.
    Raises:
        InputError: it holds no finished output, or a part has gone.
    """
    require_finished(output)
    manifest = read_manifest(output, generation)
    facts = ReportFacts(
        manifest, [TaskFacts(n, list(labels)) for n, labels in manifest.model.tasks.items()]
    )
    rows = sum(part.rows for part in manifest.parts)
    drawn = np.random.default_rng(0).choice(rows, min(rows, MAP_ROWS), replace=False)
    wanted = np.sort(drawn)
    vectors: list[NDArray[np.float32]] = []
    offset = 0
    for batch in _batches(output, manifest):
        _count(facts, batch)
        _remember(facts, batch)
        here = wanted[(wanted >= offset) & (wanted < offset + len(batch))] - offset
        if len(here):
            some = batch.take(pa.array(here))
            _draw(facts, some)
            if EMBEDDING in batch.column_names:
                vectors.append(vectors_of(some, manifest.embedding))
        offset += len(batch)
    _read_errors(facts, output)
    if vectors:
        facts.vectors = np.concatenate(vectors)
    if len(facts.vectors) > 2:
        facts.points = _project(facts.vectors)
    return facts


def _draw(facts: ReportFacts, some: pa.Table) -> None:
    """Add rows to the sample."""
    facts.sample += [_shown(facts, some, row, 0.0) for row in range(len(some))]
    for task in facts.tasks:
        for name in (f"{task.name}_score", typicality_column(task.name)):
            if name in some.column_names:
                facts.numbers.setdefault(name, []).extend(some[name].to_pylist())


def _batches(output: Place, manifest: Manifest) -> Iterator[pa.Table]:
    wanted = {ROW_ID, TRUNCATED, EMBEDDING, EMBEDDING_SCALE, manifest.text_column}
    wanted |= {name for task in manifest.model.tasks for name in (task, f"{task}_score")}
    if manifest.has_typicality:
        wanted |= {typicality_column(task) for task in manifest.model.tasks}
    for batch in batches(output, manifest, wanted):
        yield _with_plain_text(batch, manifest.text_column)


def _with_plain_text(table: pa.Table, name: str) -> pa.Table:
    """The table with its texts as large strings; the column may be a dictionary or a view."""
    index = table.schema.get_field_index(name)
    return table.set_column(index, name, table.column(index).cast(pa.large_string()))


def _labels(batch: pa.Table, task: str) -> list[str]:
    column = pc.fill_null(batch.column(task).cast(pa.string()), NO_LABEL)
    labels: list[str] = column.to_pylist()
    return labels


def _count(facts: ReportFacts, batch: pa.Table) -> None:
    by_task = [_labels(batch, task.name) for task in facts.tasks]
    for task, labels in zip(facts.tasks, by_task, strict=True):
        task.counts.update(labels)
        scores = batch.column(f"{task.name}_score").to_numpy()
        task.scores += np.histogram(scores, SCORE_BINS, (0, 1))[0]
        if facts.manifest.has_typicality:
            typical = batch.column(typicality_column(task.name)).to_numpy()
            task.typicality += np.histogram(typical, SCORE_BINS, (0, 1))[0]
    if len(by_task) > 1:
        facts.cross.update(zip(by_task[0], by_task[1], strict=True))


def _remember(facts: ReportFacts, batch: pa.Table) -> None:
    """Keep the rows that are among the least sure, least typical, longest, and the truncated."""
    every = np.arange(len(batch))

    def shown(row: int, number: float) -> ShownRow:
        return _shown(facts, batch, row, number)

    for task in facts.tasks:
        scores = batch.column(f"{task.name}_score").to_numpy()
        task.unsure.offer(every, scores, shown)
        if facts.manifest.has_typicality:
            typical = batch.column(typicality_column(task.name)).to_numpy()
            task.untypical.offer(every, typical, shown)
    lengths = pc.utf8_length(batch.column(facts.manifest.text_column)).to_numpy()
    cut = np.flatnonzero(batch.column(TRUNCATED).to_numpy())
    facts.longest.offer(every, lengths, shown)
    facts.truncated.offer(cut, lengths, shown)


def _shown(facts: ReportFacts, batch: pa.Table, row: int, number: float) -> ShownRow:
    text = str(batch.column(facts.manifest.text_column)[row].as_py())
    if len(text) > SHOWN_CHARACTERS:
        text = text[:SHOWN_CHARACTERS] + "…"
    labels = [batch.column(task.name)[row].as_py() or NO_LABEL for task in facts.tasks]
    return ShownRow(batch.column(ROW_ID)[row].as_py(), text, tuple(labels), number)


def _project(vectors: NDArray[np.float32]) -> NDArray[np.float64]:
    from sklearn.decomposition import PCA

    # PCA warns where all vectors are equal (as those of equal texts are), for they do not vary.
    with np.errstate(invalid="ignore"):
        points: NDArray[np.float64] = PCA(2, random_state=0).fit_transform(
            vectors.astype(np.float64)
        )
    return points


def _read_errors(facts: ReportFacts, output: Place) -> None:
    reasons: Counter[str] = Counter()
    for entry in facts.manifest.errors:
        with opened(output, entry.file) as file:
            for batch in file.iter_batches(BATCH_ROWS):
                reasons.update(batch.column("reason").to_pylist())
                facts.errors += batch.slice(0, SHOWN_ROWS - len(facts.errors)).to_pylist()
    facts.reasons = reasons.most_common(SHOWN_ROWS)
