"""Heads trained alone, on checked rows and the rows stored with a model."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load_file

from mtl_core.errors import ModelError
from mtl_core.evaluation.facts import read_facts
from mtl_core.model.identity import encoder_sha256
from mtl_core.model.registry import SHIPPED_MODELS, ModelEntry
from mtl_core.model.stored import STORED, Rows, read_stored, rows_to_store
from mtl_core.model.typicality import read_typicality
from mtl_core.storage.folder import Folder
from mtl_core.tasks import DEFAULT_TASKS
from mtl_core.training.heads import Head, fit_head
from mtl_core.training.new_heads import NewHeads

SIZE = 8
BEFORE = Head(np.vstack([-np.eye(SIZE)[0], np.eye(SIZE)[0]]) * 4, np.zeros(2))
"""A head of two labels that asks for the sign of the first number."""


def rows(count: int, seed: int, axis: int) -> Rows:
    """Random unit vectors whose label is the sign of one number."""
    vectors = np.random.default_rng(seed).normal(size=(count, SIZE)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return Rows(vectors, (vectors[:, axis] > 0).astype(np.int64))


def right(head: Head, found: Rows) -> float:
    labels: NDArray[np.int64] = head.logits(found.embeddings).argmax(axis=1)
    return float((labels == found.labels).mean())


def test_rows_that_say_otherwise_move_a_head() -> None:
    fitted = fit_head(BEFORE, rows(200, 1, axis=1), rows(500, 2, axis=0))
    others = rows(1000, 3, axis=1)
    assert right(BEFORE, others) < 0.6
    assert right(fitted.head, others) > 0.9
    assert np.isfinite(fitted.strength)


def test_a_few_rows_of_noise_leave_a_head_as_it_was() -> None:
    noise = rows(20, 1, axis=0)
    labels = np.where(np.arange(20) % 4 == 0, 1 - noise.labels, noise.labels)
    fitted = fit_head(BEFORE, Rows(noise.embeddings, labels), rows(500, 2, axis=0))
    assert right(fitted.head, rows(1000, 3, axis=0)) > 0.97


@pytest.mark.parametrize("count", [1, 2, 7])
def test_a_handful_of_rows_is_enough_to_run(count: int) -> None:
    fitted = fit_head(BEFORE, rows(count, 1, axis=0), None)
    assert fitted.left_out.shape == (count, 2)
    assert np.isfinite(fitted.head.weight).all()


@pytest.fixture(scope="module")
def moved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped model with a sentiment head moved by rows that have the other label."""
    before, output = SHIPPED_MODELS / "default", tmp_path_factory.mktemp("moved") / "new"
    own = read_stored(before, encoder_sha256(before))["sentiment"].part(held_out=True)
    checked = Rows(own.embeddings[:200], 1 - own.labels[:200])
    facts = {
        "command": "mtl train --scenario heads",
        "data": "checked rows",
        "rows": {"topic": 0, "sentiment": 200},
        "from": {"abc": "default"},
        "scenario": "heads",
    }
    NewHeads(before, DEFAULT_TASKS, {"sentiment": checked}, output, "new", facts).run()
    return output


def test_only_the_head_that_rows_were_checked_for_changes(moved: Path) -> None:
    before = load_file(SHIPPED_MODELS / "default/model.safetensors")
    after = load_file(moved / "model.safetensors")
    changed = {name for name in before if before[name].tobytes() != after[name].tobytes()}
    assert changed == {"heads.sentiment.weight", "heads.sentiment.bias"}
    assert encoder_sha256(moved) == encoder_sha256(SHIPPED_MODELS / "default")


def test_the_model_says_what_the_rows_bore_out(moved: Path) -> None:
    facts = read_facts(ModelEntry("new", Folder(moved), shipped=False))
    found = facts.metrics["checked"]["sentiment"]
    assert found["before"]["accuracy"] < 0.2
    assert found["after"]["accuracy"] > 0.6
    card = (moved / "README.md").read_text()
    assert "head of `default`, moved by 200 checked rows" in card
    assert "each judged without itself" in card


def test_calibration_and_typicality_are_made_anew_for_that_task_alone(moved: Path) -> None:
    def calibration(folder: Path, task: str) -> object:
        return json.loads((folder / "config.json").read_text())["calibration"][task]

    before = SHIPPED_MODELS / "default"
    assert calibration(moved, "topic") == calibration(before, "topic")
    assert calibration(moved, "sentiment") != calibration(before, "sentiment")
    new = read_typicality(moved, facts_sha(moved))
    old = read_typicality(before, facts_sha(before))
    assert (new["topic"].distances == old["topic"].distances).all()
    assert len(new["sentiment"].distances) > 200


def facts_sha(folder: Path) -> str:
    return ModelEntry("any", Folder(folder), shipped=False).sha256()


def test_the_shipped_models_keep_rows_without_texts() -> None:
    for name in ("default", "fast"):
        folder = SHIPPED_MODELS / name
        stored = read_stored(folder, encoder_sha256(folder))
        assert set(stored) == {"topic", "sentiment"}
        for own in stored.values():
            assert len(own.labels) == rows_to_store(2, 256)
            assert set(own.held_out.tolist()) == {0, 1}
        assert (folder / STORED).stat().st_size <= 2_500_000


def test_stored_rows_of_another_encoder_are_not_taken_and_a_damaged_file_is_said(
    tmp_path: Path,
) -> None:
    shutil.copy(SHIPPED_MODELS / "default" / STORED, tmp_path / STORED)
    assert read_stored(tmp_path, "another") == {}
    (tmp_path / STORED).write_bytes(b"no tensors")
    with pytest.raises(ModelError, match="cannot be read"):
        read_stored(tmp_path, "another")
