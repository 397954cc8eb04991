"""Suspected label errors: planted ones are found, and the file says which they are."""

from pathlib import Path

import numpy as np
import pyarrow.csv
import pytest
from numpy.typing import NDArray

from mtl_core.data.splits import LabelledTexts
from mtl_core.evaluation import suspects
from mtl_core.evaluation.suspects import Suspects, find_suspects, write_suspects
from mtl_core.tasks import Task

COLOURS = Task("colour", ("red", "green", "blue"))


def made_rows(rows: int, seed: int = 0, spread: float = 1.0) -> tuple[LabelledTexts, NDArray]:
    """Texts of three classes and vectors [N, 16] around each class's own centre."""
    generator = np.random.default_rng(seed)
    labels = np.arange(rows) % 3
    vectors = generator.normal(size=(3, 16))[labels] + spread * generator.normal(size=(rows, 16))
    texts = [f"text {row}" for row in range(rows)]
    return LabelledTexts(COLOURS, texts, labels), vectors.astype(np.float16)


def with_flipped(data: LabelledTexts, flipped: NDArray[np.int64]) -> LabelledTexts:
    labels = data.labels.copy()
    labels[flipped] = (labels[flipped] + 1) % 3
    return LabelledTexts(data.task, data.texts, labels)


def test_flipped_labels_come_first_and_are_listed_with_the_right_label() -> None:
    data, vectors = made_rows(1200, spread=0.7)
    flipped = np.random.default_rng(1).choice(1200, 60, replace=False)
    found = find_suspects(with_flipped(data, flipped), vectors)
    assert np.isin(flipped, found.ranking[:96]).mean() >= 0.9
    assert np.isin(found.rows, flipped).mean() >= 0.9
    listed = np.intersect1d(found.rows, flipped)
    assert len(listed) >= 50
    assert (found.predicted[listed] == data.labels[listed]).mean() >= 0.95
    assert (np.diff(found.margins[found.rows]) <= 0).all()


def test_few_rows_are_suspected_where_no_label_is_wrong() -> None:
    data, vectors = made_rows(1200, spread=0.7)
    assert len(find_suspects(data, vectors).rows) <= 24


def test_a_class_of_few_rows_is_not_judged() -> None:
    data, vectors = made_rows(200)
    labels = np.where(data.labels == 2, 0, data.labels)
    labels[:3] = 2
    found = find_suspects(LabelledTexts(COLOURS, data.texts, labels), vectors)
    assert not np.isin(found.rows, [0, 1, 2]).any()
    assert not (found.predicted[found.rows] == 2).any()


@pytest.mark.parametrize("rows", [2, 3, 7])
def test_very_few_rows_are_judged_without_an_error(rows: int) -> None:
    data, vectors = made_rows(rows)
    found = find_suspects(data, vectors)
    assert len(found.rows) == 0
    assert np.isfinite(found.margins).all()


@pytest.mark.parametrize("classes", [2, 3])
def test_labels_that_the_vectors_do_not_tell_are_hardly_suspected(classes: int) -> None:
    data, vectors = made_rows(900)
    labels = np.random.default_rng(3).permutation(np.arange(900) % classes)
    found = find_suspects(LabelledTexts(COLOURS, data.texts, labels), vectors)
    assert len(found.rows) <= 9


def test_rows_that_all_hold_one_vector_give_no_suspects() -> None:
    data, vectors = made_rows(30)
    found = find_suspects(data, np.ones_like(vectors))
    assert np.isfinite(found.margins).all()
    assert len(found.rows) == 0


def test_the_linear_judge_answers_as_if_refitted_without_each_row(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(suspects, "RIDGES", (0.1,))
    data, halves = made_rows(40)
    vectors = halves.astype(np.float64)
    axes = suspects._axes_of(vectors, lambda: None)
    answers = suspects._leave_one_out(vectors, axes, data.labels, 3, lambda: None)
    penalty = 0.1 * axes.sums.mean()
    for row in (0, 17, 39):
        others = np.delete(vectors, row, axis=0)
        wanted = np.eye(3)[np.delete(data.labels, row)]
        centred = others - others.mean(axis=0)
        slopes = np.linalg.solve(
            centred.T @ centred + penalty * np.eye(16), centred.T @ (wanted - wanted.mean(axis=0))
        )
        refitted = (vectors[row] - others.mean(axis=0)) @ slopes + wanted.mean(axis=0)
        np.testing.assert_allclose(answers[row], refitted, atol=1e-5)


def test_of_very_many_rows_neighbours_are_searched_in_a_sample(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(suspects, "CANDIDATES", 300)
    monkeypatch.setattr(suspects, "BLOCK_ROWS", 128)
    data, vectors = made_rows(1200, spread=0.7)
    flipped = np.random.default_rng(1).choice(1200, 60, replace=False)
    found = find_suspects(with_flipped(data, flipped), vectors)
    assert np.isin(flipped, found.ranking[:96]).mean() >= 0.9


def test_the_pulse_can_end_the_search() -> None:
    class Ended(Exception):
        pass

    def pulse() -> None:
        raise Ended

    data, vectors = made_rows(30)
    with pytest.raises(Ended):
        find_suspects(data, vectors, pulse)


def test_the_file_lists_the_most_suspicious_rows_and_the_count_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(suspects, "LISTED", 2)
    texts = ['=1+1, "quoted"', "two\nlines", "fine", "last"]
    data = LabelledTexts(COLOURS, texts, np.array([0, 1, 2, 0]))
    margins = np.array([0.5, 0.9, -0.5, 0.7], dtype=np.float32)
    found = Suspects(data, np.array([1, 2, 0, 2]), margins, np.array([1, 3, 0]))
    write_suspects(tmp_path / "suspects.csv", {"colour": found})
    options = pyarrow.csv.ParseOptions(newlines_in_values=True)
    rows = pyarrow.csv.read_csv(tmp_path / "suspects.csv", parse_options=options).to_pylist()
    assert rows == [
        {
            "task": "colour",
            "text": "two\nlines",
            "label": "green",
            "predicted": "blue",
            "score": 0.9,
        },
        {"task": "colour", "text": "last", "label": "red", "predicted": "blue", "score": 0.7},
    ]
    assert found.counts() == {"rows": 4, "suspected": 3, "listed": 2}
    assert [path.name for path in tmp_path.iterdir()] == ["suspects.csv"]


def test_without_suspects_the_file_holds_its_header_alone(tmp_path: Path) -> None:
    write_suspects(tmp_path / "suspects.csv", {})
    text = (tmp_path / "suspects.csv").read_text()
    assert text.splitlines() == ['"task","text","label","predicted","score"']
