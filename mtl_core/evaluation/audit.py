"""How right labels are, told from a few rows that a person has checked.

The rows are drawn at random within strata. A model's own scores say beforehand how often it is
right; the checked rows say by how much that is wrong. An estimate is therefore the mean score of
all rows, corrected by the mean difference on the checked rows (the difference estimator of survey
sampling, Särndal, Swensson and Wretman 1992, section 6.3; prediction-powered inference,
Angelopoulos et al. 2023). It is right whatever the scores are worth; the more they are worth, the
narrower is its interval.

The interval is Wilson's (1927) for as many independent rows as would have the estimate's variance
(the effective sample size, as Korn and Graubard 1998 use it). Near 0 and 1, where labels mostly
are, the plain normal interval is too narrow. benchmarks/audit.py measures how often the interval
holds the truth.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

CONFIDENCE = 0.95
Z = 1.959964
"""The normal distribution's quantile for :data:`CONFIDENCE`, both sides."""
LEAST_ROWS = 2
"""Rows drawn of each stratum, at least: one alone does not tell its variance."""
GREATEST_GAIN = 5.0
"""The effective sample size is at most so many times the rows checked: where no checked row
differs from what was expected of it, the variance seen is 0, and means little."""


@dataclass(frozen=True)
class Estimate:
    """A share of all rows, with its interval."""

    value: float
    low: float
    high: float
    rows: int
    """How many checked rows it stands on."""

    @property
    def width(self) -> float:
        """Length of the interval."""
        return self.high - self.low

    def rows_for(self, width: float) -> int:
        """About how many checked rows would give an interval of a wanted length."""
        return math.ceil(self.rows * (self.width / width) ** 2)


@dataclass(frozen=True)
class Checked:
    """Checked rows of a random draw."""

    strata: NDArray[np.int64]
    """Each row's stratum, int64 [n], from 0."""
    sizes: NDArray[np.int64]
    """How many rows each stratum has in all, int64 [S]."""

    @property
    def counts(self) -> NDArray[np.int64]:
        """How many rows of each stratum were checked, int64 [S]."""
        counts: NDArray[np.int64] = np.bincount(self.strata, minlength=len(self.sizes))
        return counts


def allocate(sizes: Sequence[int], rows: int) -> NDArray[np.int64]:
    """How many rows to draw of each stratum, int64 [S].

    Each gets its part of ``rows``, but :data:`LEAST_ROWS` at least, if it has them; what rounding
    leaves goes to those that lost most by it.
    """
    counts = np.asarray(sizes, dtype=np.int64)
    wanted = rows * counts / max(1, counts.sum())
    drawn: NDArray[np.int64] = np.minimum(
        counts, np.maximum(LEAST_ROWS, np.floor(wanted).astype(np.int64))
    )
    for stratum in np.argsort(drawn - wanted, kind="stable"):
        if drawn.sum() >= rows:
            break
        drawn[stratum] += int(drawn[stratum] < counts[stratum])
    return drawn


def estimate_share(
    checked: Checked,
    found: NDArray[np.float64],
    expected: NDArray[np.float64],
    mean_expected: float,
) -> Estimate:
    """Estimate the mean of a quantity over all rows.

    Args:
        found: what checking said of each checked row, 0 or 1, float64 [n].
        expected: what the model expects of it, a probability, float64 [n].
        mean_expected: the mean of that over all rows, checked or not.
    """
    sizes, counts = checked.sizes, checked.counts
    differences = found - expected
    total = int(sizes.sum())
    weights = sizes / np.maximum(counts, 1)
    value = mean_expected + float((weights[checked.strata] * differences).sum()) / total
    variance = 0.0
    for stratum in np.flatnonzero((counts > 1) & (counts < sizes)):
        own = differences[checked.strata == stratum]
        share, unseen = sizes[stratum] / total, 1 - counts[stratum] / sizes[stratum]
        variance += share**2 * unseen * float(own.var(ddof=1)) / len(own)
    low, high = _interval(value, variance, len(found), total)
    value = min(max(value, 0.0), 1.0)  # with a few rows Wilson's interval may lie beside it
    return Estimate(value, min(low, value), max(high, value), len(found))


def _interval(value: float, variance: float, rows: int, total: int) -> tuple[float, float]:
    if rows >= total:  # every row was checked
        return value, value
    inside = min(max(value, 0.5 / rows), 1 - 0.5 / rows)
    most = GREATEST_GAIN * rows / (1 - rows / total)
    effective = min(inside * (1 - inside) / max(variance, 1e-12), most)
    spread = Z * Z / effective
    middle = (inside + spread / 2) / (1 + spread)
    half = Z / (1 + spread) * math.sqrt((inside * (1 - inside) + spread / 4) / effective)
    return max(0.0, middle - half), min(1.0, middle + half)
