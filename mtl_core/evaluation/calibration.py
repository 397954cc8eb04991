"""Calibrate scores: one temperature for each task, and thresholds for wanted precisions.

Temperature scaling after Guo et al. 2017, "On Calibration of Modern Neural Networks": probabilities
are the softmax of logits / T, and T is fitted by maximum likelihood on held-out rows. It changes no
label.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mtl_core.config import Calibration

ECE_BINS = 15
WANTED_PRECISIONS = tuple(round(0.80 + 0.01 * step, 2) for step in range(20))


def softmax(logits: NDArray[np.float32], temperature: float = 1.0) -> NDArray[np.float64]:
    """Probabilities, float64 [N, C], of logits, float32 [N, C]."""
    scaled = logits.astype(np.float64) / temperature
    scaled -= scaled.max(axis=1, keepdims=True)
    powers = np.exp(scaled)
    result: NDArray[np.float64] = powers / powers.sum(axis=1, keepdims=True)
    return result


def fit_temperature(logits: NDArray[np.float32], expected: NDArray[np.int64]) -> float:
    """The temperature with the least negative log-likelihood, between 0.05 and 20."""
    from scipy.optimize import minimize_scalar

    def loss(log_temperature: float) -> float:
        chosen = softmax(logits, float(np.exp(log_temperature)))[np.arange(len(expected)), expected]
        return float(-np.log(np.maximum(chosen, 1e-12)).mean())

    found = minimize_scalar(loss, bounds=(np.log(0.05), np.log(20.0)), method="bounded")
    return float(np.exp(found.x))


def expected_calibration_error(
    scores: NDArray[np.float64], correct: NDArray[np.bool_], bins: int = ECE_BINS
) -> float:
    """Mean distance of score and accuracy over bins of equal width, weighted by rows."""
    points = bin_scores(scores, correct, bins)
    total = sum(abs(point["score"] - point["accuracy"]) * point["rows"] for point in points)
    return float(total / max(1, len(scores)))


def error_by_chance(scores: NDArray[np.float64], draws: int = 100) -> float:
    """The mean of :func:`expected_calibration_error` if every score were exactly right.

    It is above 0, and it is greater the fewer rows there are. No calibration can be measured to be
    better than that. Each answer is drawn to be right with its score as the probability, ``draws``
    times, from a fixed seed.
    """
    generator = np.random.default_rng(0)
    return float(
        np.mean(
            [
                expected_calibration_error(scores, generator.random(len(scores)) < scores)
                for _ in range(draws)
            ]
        )
    )


def bin_scores(
    scores: NDArray[np.float64], correct: NDArray[np.bool_], bins: int = ECE_BINS
) -> list[dict[str, Any]]:
    """Points of the calibration plot: mean ``score``, ``accuracy``, ``rows`` of non-empty bins."""
    place = np.minimum((scores * bins).astype(int), bins - 1)
    return [
        {
            "score": float(scores[place == index].mean()),
            "accuracy": float(correct[place == index].mean()),
            "rows": int((place == index).sum()),
        }
        for index in range(bins)
        if (place == index).any()
    ]


def precision_threshold(
    scores: NDArray[np.float64], correct: NDArray[np.bool_], wanted: float
) -> float | None:
    """The least score at and above which labels are right as often as wanted, or None."""
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order]
    precision = np.cumsum(correct[order]) / np.arange(1, len(order) + 1)
    # A threshold keeps all rows of equal score or none: only the last of them can be the end.
    ends = np.append(ranked[1:] < ranked[:-1], True)
    reached = np.flatnonzero(ends & (precision >= wanted))
    return float(ranked[reached[-1]]) if len(reached) else None


def fit_calibration(logits: NDArray[np.float32], expected: NDArray[np.int64]) -> Calibration:
    """Fit temperature and thresholds to held-out logits, float32 [N, C], and classes, int64 [N]."""
    temperature = fit_temperature(logits, expected)
    probabilities = softmax(logits, temperature)
    scores, correct = probabilities.max(axis=1), probabilities.argmax(axis=1) == expected
    thresholds = {
        f"{wanted:.2f}": threshold
        for wanted in WANTED_PRECISIONS
        if (threshold := precision_threshold(scores, correct, wanted)) is not None
    }
    return Calibration(temperature, thresholds)


def calibration_report(
    logits: NDArray[np.float32], expected: NDArray[np.int64], calibration: Calibration
) -> dict[str, Any]:
    """How far the scores can be trusted on rows the fit has not seen.

    Returns:
        ``temperature``; ``ece_before`` and ``ece_after`` (15 bins); ``ece_by_chance``, the error
        that as many rows would show if the scores were exactly right; ``bins`` of the calibrated
        scores; and ``abstain``: for each wanted precision the ``threshold``, the ``precision``
        reached here and the ``coverage``, the share of rows that get a label.
    """
    before, after = softmax(logits), softmax(logits, calibration.temperature)
    correct = after.argmax(axis=1) == expected
    scores = after.max(axis=1)
    kept = {wanted: scores >= t for wanted, t in calibration.thresholds.items()}
    return {
        "temperature": calibration.temperature,
        "ece_before": expected_calibration_error(before.max(axis=1), correct),
        "ece_after": expected_calibration_error(scores, correct),
        "ece_by_chance": error_by_chance(scores),
        "bins": bin_scores(scores, correct),
        "abstain": {
            wanted: {
                "threshold": calibration.thresholds[wanted],
                "precision": float(correct[rows].mean()) if rows.any() else None,
                "coverage": float(rows.mean()),
            }
            for wanted, rows in kept.items()
        },
    }
