"""Typicality: what its statistics say of rows, and that a run fits them and keeps them."""

import json
from pathlib import Path

import numpy as np
import pytest
from loops import settings as run_settings
from numpy.typing import NDArray

from mtl_core.config import ModelConfig
from mtl_core.data.splits import load_split
from mtl_core.errors import ModelError
from mtl_core.model.config import TYPICALITY
from mtl_core.model.network import load_model
from mtl_core.model.typicality import Typicality, read_typicality, write_typicality
from mtl_core.training.preparation import training_split
from mtl_core.training.run import TrainingRun
from mtl_core.training.typicality import balanced_rows, fit_statistics, measured

SIZE = 16
CENTRES = np.eye(3, SIZE)


def drawn(rows: int, seed: int, centres: NDArray[np.float64] = CENTRES[:2]) -> NDArray[np.float32]:
    """Unit vectors about some centres, in turn; each number has a variance of its own."""
    noise = np.random.default_rng(seed).normal(size=(rows, SIZE)) * np.linspace(0.02, 0.2, SIZE)
    vectors = centres[np.arange(rows) % len(centres)] + noise
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def fitted(rows: int = 2000) -> Typicality:
    return fit_statistics(drawn(rows, 1), np.arange(rows) % 2, drawn(2000, 2))


def test_the_typicality_of_rows_like_those_held_out_is_uniform() -> None:
    values = np.sort(fitted().typicality(drawn(2000, 3)))
    assert np.abs(values - np.linspace(0, 1, 2000)).max() < 0.05
    assert (values < 0.05).mean() == pytest.approx(0.05, abs=0.02)


def test_rows_far_from_every_class_have_a_low_typicality() -> None:
    assert fitted().typicality(drawn(300, 4, CENTRES[2:])).max() < 0.01


def test_a_row_between_two_classes_is_like_neither() -> None:
    between = CENTRES[:2].mean(axis=0, keepdims=True)
    assert fitted().typicality(drawn(300, 5, between)).max() < 0.01


def test_the_farthest_row_of_all_has_a_typicality_above_zero() -> None:
    far = -100 * np.ones((1, SIZE), np.float32)
    assert fitted().typicality(far)[0] == np.float32(1 / 2001)


@pytest.mark.parametrize("rows", [1, 2, 5, 20])
def test_few_rows_a_class_of_one_row_and_equal_rows_give_statistics_too(rows: int) -> None:
    labels = np.minimum(np.arange(rows), 1)  # the first class has one row
    for embeddings in (drawn(rows, 1), np.repeat(drawn(1, 1), rows, axis=0)):
        values = fit_statistics(embeddings, labels, drawn(3, 2)).typicality(drawn(50, 3))
        assert values.dtype == np.float32
        assert ((values >= 0.25) & (values <= 1)).all()  # of three held-out rows and itself


def test_with_fewer_rows_than_numbers_far_rows_are_still_told_from_others() -> None:
    few = fitted(rows=10)
    assert np.median(few.typicality(drawn(500, 3))) > 0.3
    assert np.median(few.typicality(drawn(500, 4, CENTRES[2:]))) < 0.05


def test_rows_are_drawn_from_every_class_and_from_none_more_than_its_part() -> None:
    labels = np.array([0] * 500 + [1] * 3 + [2] * 200)
    found = labels[balanced_rows(labels, 90, seed=1)]
    assert np.bincount(found).tolist() == [30, 3, 30]
    assert np.bincount(labels[balanced_rows(labels, 2, seed=1)]).tolist() == [1, 1, 1]


def test_what_is_measured_is_the_share_below_and_how_well_tasks_are_told_apart() -> None:
    official = {"own": drawn(400, 6), "other": drawn(200, 7, CENTRES[2:])}
    found = measured(fitted(), "own", official)
    assert found["official"]["rows"] == 400
    assert found["official"]["below"] < 0.1
    assert found["others"]["other"] == {"rows": 200, "below": 1.0, "auroc": 1.0}
    assert measured(fitted(), "a task without an official split", official) == {}


# --- the file


def test_statistics_come_back_from_their_file(tmp_path: Path) -> None:
    one, other = fitted(), fitted(rows=40)
    write_typicality(tmp_path, {"topic": one, "my_own": other}, "weights")
    found = read_typicality(tmp_path, "weights")
    assert set(found) == {"topic", "my_own"}
    rows = drawn(100, 3)
    assert (found["topic"].typicality(rows) == one.typicality(rows)).all()
    assert (found["my_own"].typicality(rows) == other.typicality(rows)).all()


def test_statistics_of_other_weights_are_not_used(tmp_path: Path) -> None:
    write_typicality(tmp_path, {"topic": fitted()}, "weights")
    assert read_typicality(tmp_path, "weights of a later run") == {}
    assert read_typicality(tmp_path / "none", "weights") == {}


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    (tmp_path / TYPICALITY).write_bytes(b"no safetensors")
    with pytest.raises(ModelError, match=r"typicality\.safetensors cannot be read"):
        read_typicality(tmp_path, "weights")


# --- a run


@pytest.mark.parametrize("scenario", ["full", "freeze-backbone"])
def test_a_run_fits_statistics_of_what_its_model_gives(
    scenario: str, made_data: Path, tiny_backbone: Path, tmp_path: Path
) -> None:
    config = run_settings(scenario=scenario, max_tokens=8)  # labelling reads more of long texts
    folder = tmp_path / "m"
    run = TrainingRun(
        config,
        ModelConfig(backbone=str(tiny_backbone)),
        *(made_data, folder),
        name="m",
        command="",
    ).run()
    model = load_model(folder).model
    for task in model.config.tasks:
        statistics = read_typicality(folder, run.sha256)[task.name]
        _, held_out = training_split(task, config, lambda t, s: load_split(t, s, made_data))
        distances = np.sort(statistics.distance(model.encode(held_out.texts)))
        np.testing.assert_allclose(statistics.distances, distances, rtol=0.1, atol=1)
    facts = json.loads((folder / "metrics.json").read_text())["typicality"]
    assert facts["topic"]["held_out"] == len(read_typicality(folder, run.sha256)["topic"].distances)
    assert 0 <= facts["topic"]["official"]["below"] <= 1
    assert "topic: typicality fitted on" in (folder / "README.md").read_text()


def test_predict_says_how_typical_a_text_is(
    made_data: Path, tiny_backbone: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "m"
    TrainingRun(
        run_settings(scenario="freeze-backbone"),
        ModelConfig(backbone=str(tiny_backbone)),
        *(made_data, folder),
        name="m",
        command="",
    ).run()
    texts = ["match goal coach league striker", "words that nobody knows here"]
    news, other = load_model(folder).model.predict(texts)
    assert news["topic_typicality"] > other["topic_typicality"]
    (folder / TYPICALITY).unlink()
    assert "topic_typicality" not in load_model(folder).model.predict(texts)[0]
