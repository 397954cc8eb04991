"""Drift: found where there is some, and seldom where there is none."""

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from copied import directions, output_with

from jobs.cli.group import main
from jobs.vectors.drift import drift_of, find_drift
from jobs.vectors.drift_sample import Sample, without_copies
from mtl_core.errors import InputError
from mtl_core.storage.folder import Folder


def sample_of(units: np.ndarray, new: np.ndarray, seed: int = 0) -> Sample:
    draw = np.random.default_rng(seed)
    scores = draw.random(len(units), np.float32)
    labels = draw.choice(["a", "b"], len(units)).tolist()
    texts = [str(row) for row in range(len(units))]
    return Sample(
        np.arange(len(units)), texts, new, units, {"topic_score": scores}, {"topic": labels}
    )


def test_halves_of_one_input_are_seldom_taken_for_different() -> None:
    new = np.repeat([False, True], 200)
    alarms = sum(
        drift_of(sample_of(directions(400, 16, seed), new, seed), 0.05, seed).drift
        for seed in range(40)
    )
    assert alarms <= 7  # 2 are expected; more than 7 come once in 1,000 times


def test_a_twentieth_of_foreign_rows_is_found_and_shown() -> None:
    units = directions(4000, 32)
    units[-100:] = directions(100, 32, seed=3) * 0.4 + np.float32(0.9) * directions(1, 32, seed=4)
    found = drift_of(sample_of(units, np.repeat([False, True], 2000)))
    assert found.drift
    assert all(row.row_id >= 3900 for row in found.newest)
    assert found.auc_low <= found.auc <= found.auc_high


def test_copies_within_a_side_are_no_drift() -> None:
    """Each of 150 texts comes eight times on one side, as templates do."""
    units = np.repeat(directions(300, 32), 8, axis=0)
    new = np.repeat([False, True], 1200)
    kept = without_copies(sample_of(units, new), "float32")
    assert len(kept.new) == 300
    found = drift_of(kept)
    assert not found.drift
    assert 0.4 < found.auc < 0.6


@pytest.fixture
def weeks(tmp_path: Path) -> tuple[Path, Path]:
    """Two outputs with other shares of topics, and of a column of the user's."""
    first = output_with(tmp_path / "old", directions(600, 32), topics=[0] * 300 + [1] * 300)
    own = ["new source"] * 200 + ["same"] * 400
    second = directions(600, 32, seed=5)
    return first, output_with(tmp_path / "new", second, topics=[0] * 500 + [1] * 100, own=own)


def test_the_command_says_what_moved_and_fails_when_asked(weeks: tuple[Path, Path]) -> None:
    old, new = map(str, weeks)
    done = CliRunner().invoke(main, ["drift", old, new, "--by", "own"])
    assert done.exit_code == 0, done.output
    assert "the input has changed" in done.output
    assert "new source" in done.output
    failed = CliRunner().invoke(main, ["drift", old, new, "--fail", "--json"])
    assert failed.exit_code == 5
    found = json.loads(failed.output)
    assert found["tests"]["shares of topic"] < 0.01
    assert {found["shares"][0]["value"], found["shares"][1]["value"]} == {"World", "Sports"}
    same = CliRunner().invoke(main, ["drift", old, old, "--fail"])
    assert same.exit_code == 0
    assert "no change found" in same.output


def test_too_few_rows_are_refused(weeks: tuple[Path, Path], tmp_path: Path) -> None:
    few = output_with(tmp_path / "few", directions(5, 32))
    with pytest.raises(InputError, match="too few to compare; give at least 20"):
        find_drift(Folder(weeks[0]), Folder(few))
