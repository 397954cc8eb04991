"""What an audit needs to know of all rows of an output, gathered in one pass."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from jobs.output.manifest import Manifest
from jobs.output.rows import batches
from jobs.output.where import Condition
from mtl_core.storage.parquet import ROW_ID
from mtl_core.storage.place import Place

Stratum = tuple[str | None, ...]
"""The labels of a row, one for each task; None where the row has none."""


@dataclass(frozen=True)
class Answer:
    """What the output says of a row."""

    labels: Stratum
    scores: tuple[float, ...]
    """One for each task."""


@dataclass
class Population:
    """All rows of an output."""

    tasks: Mapping[str, Sequence[str]]
    """The labels of each task."""
    sizes: Counter[Stratum] = field(default_factory=Counter)
    """Rows by their labels."""
    expected: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    """By task: the sum of the probability of each label over all rows, float64 [C]."""
    sure: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    """By task: the sum of the scores of the rows with each label, float64 [C]."""
    answers: dict[int, Answer] = field(default_factory=dict)
    """Of the rows asked for, by ``row_id``."""

    @property
    def rows(self) -> int:
        """How many there are."""
        return self.sizes.total()


def gather(
    output: Place, manifest: Manifest, wanted: Collection[int], where: Condition | None = None
) -> Population:
    """Read an output's labels and scores once.

    Args:
        wanted: ids of the rows whose answers are kept.
        where: look at these rows only.
    Raises:
        InputError: a part has gone.
    """
    tasks = manifest.model.tasks
    found = Population(tasks)
    found.expected = {task: np.zeros(len(labels)) for task, labels in tasks.items()}
    found.sure = {task: np.zeros(len(labels)) for task, labels in tasks.items()}
    ids = pa.array(sorted(wanted), pa.int64())
    columns = {ROW_ID, *tasks, *(f"{task}_score" for task in tasks)}
    for batch in batches(output, manifest, columns, where):
        _count(found, batch)
        here = batch.filter(pc.is_in(batch[ROW_ID], ids))
        scores = [here[f"{task}_score"].to_pylist() for task in tasks]
        for row_id, labels, own in zip(
            here[ROW_ID].to_pylist(), strata_of(here, tasks), zip(*scores, strict=True), strict=True
        ):
            found.answers[row_id] = Answer(labels, own)
    return found


def strata_of(batch: pa.Table, tasks: Iterable[str]) -> list[Stratum]:
    """The labels of each row of a batch."""
    return list(zip(*(batch[task].to_pylist() for task in tasks), strict=True))


def _count(found: Population, batch: pa.Table) -> None:
    found.sizes.update(strata_of(batch, found.tasks))
    for task, labels in found.tasks.items():
        scores = batch[f"{task}_score"].to_numpy().astype(np.float64)
        places = pc.index_in(batch[task].cast(pa.string()), pa.array(labels, pa.string()))
        classes = pc.fill_null(places, -1).to_numpy()
        found.expected[task] += expectations(classes, scores, len(labels)).sum(axis=0)
        labelled = classes >= 0
        found.sure[task] += np.bincount(classes[labelled], scores[labelled], len(labels))


def expectations(
    classes: NDArray[np.integer], scores: NDArray[np.float64], count: int
) -> NDArray[np.float64]:
    """What is expected of each row's right label, float64 [N, C].

    The label has its score, the others share the rest. A row without a label tells nothing: its
    labels are equally likely.

    Args:
        classes: of the labels given, -1 where there is none, [N].
        scores: of these labels, float64 [N].
        count: how many labels the task has.
    """
    found = np.repeat(((1 - scores) / max(1, count - 1))[:, None], count, axis=1)
    labelled = classes >= 0
    found[labelled, classes[labelled]] = scores[labelled]
    found[~labelled] = 1 / count
    return found
