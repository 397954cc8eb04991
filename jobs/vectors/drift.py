"""Whether the input has changed between two outputs of one model."""

from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jobs.vectors import drift_tests as tests
from jobs.vectors.copies.against import require_comparable
from jobs.vectors.copies.stored import vectors_manifest
from jobs.vectors.drift_sample import Sample, draw_sample, without_copies
from mtl_core.errors import InputError
from mtl_core.storage.place import Place

ROWS = 5000
"""Rows drawn of each output."""
ALPHA = 0.01
"""Share of false alarms. It costs little: a twentieth of foreign rows is found all the same."""
EXAMPLES = 8
MOST_VALUES = 20
"""Values of a column told apart; the most frequent ones."""
OTHERS = "(others)"
LEAST_ROWS = 20
"""With fewer distinct rows on a side nothing can be said."""


@dataclass(frozen=True)
class Share:
    """The share of a label, or of a value of a column, before and after."""

    column: str
    value: str
    old: float
    new: float
    low: float
    """Of the difference, new less old: its 95 % interval (Agresti and Caffo 2000)."""
    high: float


@dataclass(frozen=True)
class NewRow:
    """A row of the new output that looks least like the old."""

    row_id: int
    text: str
    score: float
    """By the domain classifier; only its order means something."""


@dataclass(frozen=True)
class Drift:
    """What was found."""

    drift: bool
    p: float
    """Of all tests together."""
    tests: dict[str, float]
    """The p-value of each test alone, by name."""
    old_rows: int
    """Rows compared; near-equal rows of one side count once."""
    new_rows: int
    auc: float
    """How well a classifier tells the sides apart by the embeddings; 0.5: not at all."""
    auc_low: float
    auc_high: float
    shares: tuple[Share, ...]
    """All labels and values, those moved most first."""
    newest: tuple[NewRow, ...]

    def as_json(self) -> dict[str, Any]:
        """The public JSON of ``mtl drift --json``."""
        return asdict(self)


def find_drift(
    old: Place,
    new: Place,
    rows: int = ROWS,
    by: str | None = None,
    alpha: float = ALPHA,
    seed: int = 0,
    generation: int | None = None,
) -> Drift:
    """Compare what came into two outputs, by rows drawn of each.

    Args:
        rows: how many are drawn of each output.
        by: a carried column whose values are compared, too.
        alpha: the share of false alarms.
        generation: of the new output this one alone; None: all.
    Raises:
        InputError: they cannot be compared, have too few rows or no such column.
    """
    manifests = vectors_manifest(old, by), vectors_manifest(new, by, generation)
    require_comparable(old, manifests[0], new, manifests[1])
    sample = draw_sample((old, new), manifests, rows, by, seed)
    return drift_of(without_copies(sample, manifests[0].embedding, seed), alpha, seed)


def drift_of(sample: Sample, alpha: float = ALPHA, seed: int = 0) -> Drift:
    """Compare the sides of a sample whose rows are independent.

    Raises:
        InputError: a side has too few rows.
    """
    count = int(sample.new.sum())
    if min(count, len(sample.new) - count) < LEAST_ROWS:
        raise InputError(
            f"{len(sample.new) - count:,} old and {count:,} new distinct rows are too few to "
            f"compare; give at least {LEAST_ROWS} of each"
        )
    values = {name: _frequent(column) for name, column in sample.values.items()}
    sides = tests.drawn_sides(sample.new, seed)
    scores = tests.classified(sample.units, sides, seed)
    areas = tests.areas(scores, sides)
    statistics = {"classifier": areas, "mean embedding": tests.shift(sample.units, sides)}
    for name, numbers in sample.numbers.items():
        statistics[name] = tests.steps(numbers, sides)
    for name, column in values.items():
        statistics[f"shares of {name}"] = tests.shares(column, sides)
    p, alone = tests.decide(statistics)
    own = scores[:, 0]
    low, high = tests.area_interval(own, sample.new)
    return Drift(
        p <= alpha, p, alone, len(sample.new) - count, count, float(areas[0]), low, high,
        tuple(_shares(values, sample.new)), tuple(_newest(sample, own)),
    )  # fmt: skip


def _frequent(column: Any) -> list[str]:
    """A column's values, those that are not frequent as one."""
    common = Counter(column).most_common(MOST_VALUES + 1)
    if len(common) <= MOST_VALUES:
        return list(column)
    kept = {value for value, _ in common[:-1]}
    return [value if value in kept else OTHERS for value in column]


def _shares(values: dict[str, list[str]], new: NDArray[np.bool_]) -> list[Share]:
    found = []
    total = np.bincount(new.astype(int), minlength=2)
    for name, column in values.items():
        array = np.asarray(column)
        for value in np.unique(array):
            counts = np.bincount(new[array == value].astype(int), minlength=2)
            adjusted = (counts + 1) / (total + 2)
            middle = adjusted[1] - adjusted[0]
            spread = 1.96 * float((adjusted * (1 - adjusted) / (total + 2)).sum()) ** 0.5
            old, now = (counts / total).tolist()
            found.append(Share(name, str(value), old, now, middle - spread, middle + spread))
    return sorted(found, key=lambda share: -abs(share.new - share.old))


def _newest(sample: Sample, scores: NDArray[np.float32]) -> list[NewRow]:
    rows = np.flatnonzero(sample.new)
    rows = rows[np.argsort(-scores[rows], kind="stable")][:EXAMPLES]
    return [
        NewRow(int(sample.row_ids[row]), sample.texts[row], float(scores[row]))
        for row in rows.tolist()
    ]
