"""Whether two samples are of one kind: several statistics, decided together by permutation.

Each statistic is computed for the sides as they are, and for sides drawn anew from both samples
together. Of its values, each is given as standard deviations from the mean over the draws, and the
greatest of these decides, against the greatest of each draw (Westfall and Young 1993, "Resampling-
based multiple testing"): however many statistics there are, and however they hang together, the
false alarms are those asked for. All of them are linear in the sides or need one sort, so that
some hundred draws cost a few matrix products.

Legend of shapes: N rows, E embedding size, D sides drawn (the first: as they are).
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

DRAWS = 299
FOLDS = 5
RIDGE = 0.01
"""Strength of the classifier's ridge, as a share of the mean variance of a dimension."""

Sides = NDArray[np.bool_]
"""Which rows are of the new side, bool [N, D]."""


def drawn_sides(new: NDArray[np.bool_], seed: int = 0) -> Sides:
    """The sides as they are, and :data:`DRAWS` at random, bool [N, 1 + DRAWS].

    Args:
        new: bool [N].
    """
    draw = np.random.default_rng(seed)
    return np.stack([new, *(draw.permutation(new) for _ in range(DRAWS))], axis=1)


def classified(units: NDArray[np.float32], sides: Sides, seed: int = 0) -> NDArray[np.float32]:
    """How new each row looks to a linear classifier that has not seen it, float32 [N, D].

    Least squares with a ridge on the side, which with two classes is linear discriminant analysis
    (Hastie, Tibshirani, Friedman 2009, section 4.3), cross-validated. One factorisation serves all
    draws, which logistic regression would have to be fitted to one by one. (Classifier two-sample
    tests: Lopez-Paz and Oquab 2017, "Revisiting classifier two-sample tests".)
    """
    folds = np.random.default_rng(seed).permutation(len(units)) % FOLDS
    found = np.empty(sides.shape, np.float32)
    for fold in range(FOLDS):
        out, kept = folds == fold, folds != fold
        mean = units[kept].mean(axis=0)
        inner = units[kept] - mean
        products = inner.T @ inner
        products[np.diag_indices_from(products)] += RIDGE * np.trace(products) / len(products)
        wanted = sides[kept].astype(np.float32)
        weights = np.linalg.solve(products, inner.T @ (wanted - wanted.mean(axis=0)))
        found[out] = (units[out] - mean) @ weights
    return found


def areas(scores: NDArray[np.float32], sides: Sides) -> NDArray[np.float64]:
    """Area under the ROC curve of each draw, float64 [D]; 0.5 where nothing tells the sides apart.

    Args:
        scores: float32 [N, D].
    """
    order = np.argsort(scores, axis=0)
    ranked = np.take_along_axis(sides, order, axis=0)
    new = sides.sum(axis=0)
    ranks = np.arange(1, len(sides) + 1, dtype=np.float64) @ ranked
    return np.asarray((ranks - new * (new + 1) / 2) / (new * (len(sides) - new)))


def area_interval(scores: NDArray[np.float32], new: NDArray[np.bool_]) -> tuple[float, float]:
    """95 % interval of the area (DeLong, DeLong, Clarke-Pearson 1988).

    Args:
        scores: float32 [N].
        new: bool [N].
    """
    from scipy.stats import rankdata

    both = rankdata(scores)
    mine, old = scores[new], scores[~new]
    above = (both[new] - rankdata(mine)) / len(old)
    below = 1 - (both[~new] - rankdata(old)) / len(mine)
    spread = 1.96 * float(above.var(ddof=1) / len(mine) + below.var(ddof=1) / len(old)) ** 0.5
    middle = float(above.mean())
    return max(0.0, middle - spread), min(1.0, middle + spread)


def shift(units: NDArray[np.float32], sides: Sides) -> NDArray[np.float64]:
    """Squared distance between the sides' mean embeddings, float64 [D], in the metric of all rows'
    covariance (Hotelling's T², but for a factor)."""
    inner = units - units.mean(axis=0)
    moment = inner.T @ inner / len(units)
    moment[np.diag_indices_from(moment)] += RIDGE * np.trace(moment) / len(moment)
    new = sides.sum(axis=0)
    sums = inner.T @ sides.astype(np.float32)
    between = sums / new + sums / (len(sides) - new)
    return np.asarray((between * np.linalg.solve(moment, between)).sum(axis=0), np.float64)


def steps(numbers: NDArray[np.float32], sides: Sides) -> NDArray[np.float64]:
    """Kolmogorov and Smirnov's distance between the sides' numbers, float64 [D]."""
    order = np.argsort(numbers, kind="stable")
    ends = np.flatnonzero(np.diff(numbers[order], append=np.inf))
    new = sides.sum(axis=0)
    below = np.cumsum(sides[order], axis=0, dtype=np.int32)[ends]
    every = (ends + 1)[:, None]
    gaps = np.abs(below / new - (every - below) / (len(sides) - new))
    return np.asarray(gaps.max(axis=0))


def shares(values: Sequence[str], sides: Sides) -> NDArray[np.float64]:
    """Pearson's chi-squared of a column's values by side, float64 [D]."""
    _, codes = np.unique(np.asarray(values), return_inverse=True)
    counts = np.bincount(codes)
    found = np.zeros((len(counts), sides.shape[1]))
    for code in range(len(counts)):
        found[code] = sides[codes == code].sum(axis=0)
    expected = counts[:, None] * sides.mean(axis=0)
    old = counts[:, None] - expected
    return np.asarray(((found - expected) ** 2 * (1 / expected + 1 / old)).sum(axis=0))


def decide(
    statistics: Mapping[str, NDArray[np.float64]],
) -> tuple[float, dict[str, float]]:
    """The p-value of all statistics together, and that of each alone.

    Args:
        statistics: by name, float64 [D]; great where the sides differ.
    """
    alone, standard = {}, []
    for name, values in statistics.items():
        alone[name] = float((values >= values[0]).mean())  # the sides as they are count as a draw
        spread = values.std()
        standard.append((values - values.mean()) / (spread if spread > 0 else 1))
    greatest = np.max(standard, axis=0)
    return float((greatest >= greatest[0]).mean()), alone
