"""How right an output's labels are, from the rows of it that were checked."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jobs.output.layout import read_manifest, require_finished
from jobs.output.rows import condition_of
from jobs.review.population import Answer, Population, Stratum, expectations, gather
from jobs.review.reviewed import RANDOM, UNSURE, ReviewedRow
from mtl_core.errors import InputError
from mtl_core.evaluation.audit import LEAST_ROWS, Checked, Estimate, estimate_share
from mtl_core.storage.place import Place

SLICE_ROWS = 10
"""A label with fewer checked rows than this is no slice to judge."""
WEIGHTS_OFF = 0.02
"""By how large a share the weights' sum may differ from the number of rows."""


@dataclass(frozen=True)
class TaskAudit:
    """What checking says of one task."""

    task: str
    random: int
    """Checked rows of the random draw; all estimates stand on these."""
    unsure: int
    """Other checked rows; they are counted and used for nothing else."""
    accuracy: Estimate | None
    """Of the rows that have a label; None if none of them was checked."""
    shares: dict[str, Estimate]
    """By label, the share of all rows whose right label it is."""
    confusion: dict[str, dict[str, float]]
    """By label given, then by right label: the share of all rows."""
    slices: dict[str, Estimate]
    """By label given, how often it is right; the least right first."""

    def as_json(self) -> dict[str, Any]:
        """The public JSON of ``mtl audit --json``."""
        return asdict(self)


def audit(
    output: Place, rows: Sequence[ReviewedRow], *, random: bool = False, where: str | None = None
) -> list[TaskAudit]:
    """Audit every task of which rows were checked.

    Args:
        random: rows that no sheet drew were drawn at random, too.
        where: the condition by which the sheet was drawn; the estimates are of these rows.
    Raises:
        InputError: the output is none, does not hold a row, or no row was drawn at random from it.
    """
    require_finished(output)
    manifest = read_manifest(output)
    condition = condition_of(output, manifest, where)
    population = gather(output, manifest, {row.row_id for row in rows}, condition)
    for row in rows:
        if row.row_id not in population.answers:
            which = f" where {where}" if where else ""
            raise InputError(f"{output} has no labelled row {row.row_id}{which}")
    drawn = [row for row in rows if row.part == RANDOM or (random and row.part != UNSURE)]
    if not drawn:
        raise InputError(
            "no checked row was drawn at random, and others say nothing of the whole; if yours "
            "were, say so by --random"
        )
    _check_weights(population, drawn)
    audits = []
    for number, task in enumerate(manifest.model.tasks):
        checked = [row for row in drawn if task in row.labels]
        if checked:
            others = sum(task in row.labels for row in rows) - len(checked)
            audits.append(_audit(population, number, task, checked, others))
    return audits


def _check_weights(population: Population, drawn: Sequence[ReviewedRow]) -> None:
    weights = [row.weight for row in drawn]
    if None in weights:
        return
    total = sum(weight for weight in weights if weight is not None)
    if abs(total / population.rows - 1) > WEIGHTS_OFF:
        raise InputError(
            f"the random rows stand for {total:,.0f} rows by their weights, the output has "
            f"{population.rows:,}; audit the output that the sheet was made of, by the same --where"
        )


def _audit(
    population: Population, number: int, task: str, rows: Sequence[ReviewedRow], others: int
) -> TaskAudit:
    labels = population.tasks[task]
    place = {label: index for index, label in enumerate(labels)}
    answers = [population.answers[row.row_id] for row in rows]
    given = np.array([place.get(a.labels[number] or "", -1) for a in answers])
    right = np.array([place[row.labels[task]] for row in rows])
    scores = np.array([a.scores[number] for a in answers], dtype=np.float64)
    strata, names = _strata([a.labels for a in answers], population.sizes)
    sizes = np.array([sum(population.sizes[one] for one in group) for group in names])
    every = Checked(strata, sizes)
    expected = expectations(given, scores, len(labels))
    means = population.expected[task] / population.rows
    shares = {
        label: estimate_share(
            every, (right == index).astype(np.float64), expected[:, index], float(means[index])
        )
        for label, index in place.items()
    }
    weights = (sizes / np.maximum(every.counts, 1))[strata] / population.rows
    confusion: dict[str, dict[str, float]] = {}
    for own, other, weight in zip(given.tolist(), right.tolist(), weights.tolist(), strict=True):
        line = confusion.setdefault(labels[own] if own >= 0 else "", dict.fromkeys(labels, 0.0))
        line[labels[other]] += weight
    slices = {
        label: _right(population, number, answers, right, [index])
        for label, index in place.items()
        if (given == index).sum() >= SLICE_ROWS
    }
    ordered = sorted(slices.items(), key=lambda item: item[1].value)
    every_label = list(range(len(labels)))
    labelled = (given >= 0).any()
    accuracy = _right(population, number, answers, right, every_label) if labelled else None
    return TaskAudit(task, len(rows), others, accuracy, shares, confusion, dict(ordered))


def _right(
    population: Population,
    number: int,
    answers: Sequence[Answer],
    right: NDArray[np.int64],
    among: Sequence[int],
) -> Estimate:
    """How often one of some labels is right where it is given.

    Args:
        number: the task's place among the tasks.
        answers: of the checked rows.
        right: the right label of each, int64 [n].
        among: places of the labels.
    """
    task, labels = list(population.tasks.items())[number]
    wanted = {labels[index] for index in among}
    here = [row for row, answer in enumerate(answers) if answer.labels[number] in wanted]
    sizes = {one: size for one, size in population.sizes.items() if one[number] in wanted}
    strata, groups = _strata([answers[row].labels for row in here], sizes)
    checked = Checked(strata, np.array([sum(sizes[one] for one in group) for group in groups]))
    given = np.array([labels.index(answers[row].labels[number] or "") for row in here])
    scores = np.array([answers[row].scores[number] for row in here], dtype=np.float64)
    mean = float(population.sure[task][list(among)].sum()) / sum(sizes.values())
    return estimate_share(checked, (right[here] == given).astype(np.float64), scores, mean)


def _strata(
    rows: Sequence[Stratum], sizes: Mapping[Stratum, int]
) -> tuple[NDArray[np.int64], list[list[Stratum]]]:
    """Put strata of which too few rows were checked together.

    Args:
        rows: the stratum of each checked row.
        sizes: how many rows each stratum has in all.
    Returns:
        the group of each checked row, int64 [n], and the strata of each group.
    """
    counts = Counter(rows)
    enough = [one for one in sizes if counts[one] >= min(LEAST_ROWS, sizes[one])]
    few = [one for one in sizes if one not in set(enough)]
    groups = [[one] for one in sorted(enough, key=lambda one: counts[one])]
    if sum(counts[one] for one in few) >= LEAST_ROWS:
        groups.append(few)
    elif few and groups:
        groups[-1] += few
    elif few:
        groups = [few]
    place = {one: index for index, group in enumerate(groups) for one in group}
    return np.array([place[one] for one in rows], dtype=np.int64), groups
