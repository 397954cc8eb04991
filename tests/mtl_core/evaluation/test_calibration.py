"""Scores mean what they say, and thresholds give the precision wanted."""

import numpy as np
import pytest

from mtl_core.evaluation.calibration import (
    bin_scores,
    calibration_report,
    error_by_chance,
    expected_calibration_error,
    fit_calibration,
    fit_temperature,
    precision_threshold,
    softmax,
)


def made(rows: int, temperature: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Logits that are too sure by a factor, and classes drawn from what they should have been."""
    generator = np.random.default_rng(seed)
    honest = generator.normal(0, 1.5, (rows, 3)).astype(np.float32)
    classes = np.array([generator.choice(3, p=p) for p in softmax(honest)])
    return honest * np.float32(temperature), classes


def test_the_temperature_that_made_the_scores_too_sure_is_found() -> None:
    logits, classes = made(4000, 3.0, seed=1)
    assert fit_temperature(logits, classes) == pytest.approx(3.0, rel=0.1)


def test_calibration_lowers_the_error_on_rows_it_has_not_seen() -> None:
    calibration = fit_calibration(*made(3000, 3.0, seed=2))
    report = calibration_report(*made(3000, 3.0, seed=3), calibration)
    assert report["ece_before"] > 0.15
    assert report["ece_after"] < 0.03


def test_the_error_of_a_coin_called_certain_is_a_half() -> None:
    scores, correct = np.ones(1000), np.arange(1000) % 2 == 0
    assert expected_calibration_error(scores, correct) == pytest.approx(0.5)
    assert bin_scores(scores, correct) == [{"score": 1.0, "accuracy": 0.5, "rows": 1000}]


def test_few_rows_show_an_error_by_chance_even_if_every_score_is_right() -> None:
    generator = np.random.default_rng(4)
    scores = generator.uniform(0.5, 1.0, 100_000)
    few, many = error_by_chance(scores[:500]), error_by_chance(scores)
    assert 0.03 < few < 0.06
    assert many < 0.005
    # A certain score leaves nothing to chance.
    assert error_by_chance(np.ones(100)) == 0.0


def test_a_threshold_keeps_as_many_rows_as_the_precision_allows() -> None:
    scores = np.array([0.9, 0.8, 0.7, 0.6, 0.5])
    correct = np.array([True, True, False, True, False])
    assert precision_threshold(scores, correct, 1.0) == 0.8
    assert precision_threshold(scores, correct, 0.75) == 0.6
    assert precision_threshold(scores, correct, 0.5) == 0.5


def test_rows_of_one_score_are_kept_or_left_together() -> None:
    scores, correct = np.array([0.9, 0.9, 0.9]), np.array([True, True, False])
    assert precision_threshold(scores, correct, 0.9) is None
    assert precision_threshold(scores, correct, 0.6) == 0.9


def test_a_precision_is_reached_on_rows_not_seen() -> None:
    calibration = fit_calibration(*made(5000, 2.0, seed=4))
    report = calibration_report(*made(5000, 2.0, seed=5), calibration)
    reached = report["abstain"]["0.90"]
    assert reached["precision"] == pytest.approx(0.90, abs=0.03)
    assert 0.1 < reached["coverage"] < 1
