"""Teachers: soft labels, texts without labels, and a student with fewer layers."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from support import Mtl, made_texts

from mtl_core.config import ModelConfig, train_config
from mtl_core.data.encoded import NO_LABEL
from mtl_core.data.splits import load_split
from mtl_core.engine.load import load_engine
from mtl_core.errors import ModelError
from mtl_core.model.config import read_model_config
from mtl_core.model.layers import evenly, transformer_layers
from mtl_core.model.network import load_model
from mtl_core.tasks import SENTIMENT, TOPIC, demand_answers
from mtl_core.training.kept.teacher import (
    Teacher,
    soft_labels,
    with_unlabelled,
)
from mtl_core.training.losses import teacher_loss
from mtl_core.training.run import TrainingRun
from mtl_core.training.start import fresh_model


@pytest.fixture(scope="module")
def trained(
    made_data: Path, tiny_backbone: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[int], Teacher]:
    """Train a small model with a seed, as a teacher."""
    root = tmp_path_factory.mktemp("teachers")

    def train(seed: int) -> Teacher:
        folder = root / f"seed-{seed}"
        config = train_config("recommended", seed=seed, epochs=2)
        run = TrainingRun(
            config, ModelConfig(str(tiny_backbone)), made_data, folder, name="t", command=""
        )
        sha256 = run.run().sha256 if not folder.exists() else load_model(folder).sha256
        load = lambda: load_engine(folder, "torch", cache=root / "engines")  # noqa: E731
        return Teacher(f"seed-{seed}", sha256, (TOPIC, SENTIMENT), load, folder)

    return train


def test_a_student_that_says_what_its_teacher_says_has_no_loss() -> None:
    logits = torch.tensor([[2.0, -1.0, 0.5], [0.0, 0.3, -0.2]])
    same = torch.softmax(logits, -1)
    for temperature in (1.0, 2.0):
        assert float(teacher_loss(logits, same, temperature)) == pytest.approx(0, abs=1e-5)
        assert float(teacher_loss(-logits, same, temperature)) > 0.1


def test_several_teachers_are_averaged_and_asked_once(
    trained: Callable[[int], Teacher], made_data: Path, tmp_path: Path
) -> None:
    teachers = [trained(1), trained(2)]
    data = load_split(SENTIMENT, "validation", made_data)
    both = soft_labels({"sentiment": data}, teachers, tmp_path)["sentiment"]
    alone = [soft_labels({"sentiment": data}, [t], tmp_path)["sentiment"] for t in teachers]
    mean = (alone[0].probabilities.astype(np.float32) + alone[1].probabilities) / 2
    assert np.abs(both.probabilities - mean).max() < 1e-3
    assert (both.embeddings == alone[0].embeddings).all()

    def refuse() -> None:
        raise AssertionError("its answers are kept")

    kept = [Teacher(t.name, t.sha256, t.tasks, refuse, t.folder) for t in teachers]  # type: ignore[arg-type]
    again = soft_labels({"sentiment": data}, kept, tmp_path)["sentiment"]
    assert (again.probabilities == both.probabilities).all()


def test_a_teacher_without_the_task_or_with_other_labels_is_refused(
    trained: Callable[[int], Teacher],
) -> None:
    teacher = trained(1)
    topic_only = Teacher("t", teacher.sha256, (TOPIC,), teacher.load, teacher.folder)
    with pytest.raises(ModelError, match=r"no teacher \(t\) has a task 'sentiment'"):
        demand_answers({"t": topic_only.tasks}, [TOPIC, SENTIMENT])
    demand_answers({"t": topic_only.tasks, "u": teacher.tasks}, [TOPIC, SENTIMENT])
    other = replace(TOPIC, labels=("a", "b"))
    with pytest.raises(ModelError, match="teacher 't' has other labels for task 'topic': World"):
        demand_answers({"t": topic_only.tasks}, [other])


def test_texts_without_labels_stand_behind_the_rows(made_data: Path) -> None:
    data = load_split(SENTIMENT, "validation", made_data)
    more = with_unlabelled(data, ["neither", "nor"])
    assert more.texts[-2:] == ["neither", "nor"]
    assert more.labels[-2:].tolist() == [NO_LABEL, NO_LABEL]
    assert more.labels[:-2].tolist() == data.labels.tolist()


@pytest.mark.parametrize(("kept", "which"), [(3, (1, 3, 5)), (6, (0, 1, 2, 3, 4, 5)), (1, (5,))])
def test_layers_are_kept_evenly(kept: int, which: tuple[int, ...]) -> None:
    assert evenly(6, kept) == which


def test_more_layers_cannot_be_kept_than_there_are() -> None:
    with pytest.raises(ModelError, match="has 4 layers, --keep-layers asks for 5"):
        evenly(4, 5)


def test_a_smaller_student_starts_as_its_teacher_without_the_layers(
    trained: Callable[[int], Teacher], tiny_backbone: Path
) -> None:
    teacher = trained(1)
    config = train_config("recommended", keep_layers=2)
    student, taken = fresh_model(config, ModelConfig(str(tiny_backbone)), [teacher])
    whole = load_model(teacher.folder).model
    assert student.config.layers_kept == (1, 3)
    layers = [transformer_layers(model.encoder.backbone) for model in (student, whole)]
    assert len(layers[0]) == 2
    for own, his in zip(layers[0].parameters(), layers[1][1].parameters(), strict=False):
        assert torch.equal(own.cpu(), his)
    assert torch.equal(student.heads["topic"].weight.cpu(), whole.heads["topic"].weight)
    assert "heads.topic.weight" in taken


def test_a_student_keeps_what_its_teacher_gave_it_though_it_trains_only_the_rest(
    trained: Callable[[int], Teacher], made_data: Path, tiny_backbone: Path, tmp_path: Path
) -> None:
    teacher = trained(1)
    config = train_config("recommended", "last-layers", layers=1, keep_layers=2, epochs=1)
    TrainingRun(
        *(config, ModelConfig(str(tiny_backbone)), made_data, tmp_path / "m"),
        name="m",
        command="",
        teachers=[teacher],
    ).run()
    lower, upper = transformer_layers(load_model(tmp_path / "m").model.encoder.backbone)
    his = transformer_layers(load_model(teacher.folder).model.encoder.backbone)
    pairs = zip(lower.parameters(), his[1].parameters(), strict=True)
    assert all(torch.equal(own, given) for own, given in pairs)
    pairs = zip(upper.parameters(), his[3].parameters(), strict=True)
    assert not all(torch.equal(own, given) for own, given in pairs)


@pytest.mark.slow
def test_a_smaller_student_is_trained_by_command_and_labels_alike_on_both_engines(
    mtl: Mtl,
    trained: Callable[[int], Teacher],
    made_data: Path,
    tiny_backbone: Path,
    tmp_path: Path,
) -> None:
    unlabelled = tmp_path / "texts.txt"
    texts, _ = made_texts("sentiment", 30, seed=5)
    unlabelled.write_text("\n".join(texts) + "\n")
    teacher = trained(1)
    models = tmp_path / "models"
    arguments = ("--scenario", "full", "--epochs", "2", "--data", made_data, "--keep-layers", "2")
    arguments = (*arguments, "--backbone", tiny_backbone, "--unlabelled", f"sentiment={unlabelled}")
    refused = mtl("train", "--name", "small", *arguments, MTL_MODELS_DIR=str(models))
    assert refused.code != 0
    assert "--unlabelled needs a --teacher" in refused.err
    arguments = (*arguments, "--teacher", teacher.folder)
    done = mtl("train", "--name", "small", *arguments, MTL_MODELS_DIR=str(models))
    assert done.code == 0, done.err
    folder = models / "small"
    assert read_model_config(folder).layers_kept == (1, 3)
    raw = json.loads((folder / "config.json").read_text())
    assert raw["format"] == 2  # an older version would put the weights into other layers
    assert raw["training"]["teachers"] == {teacher.sha256: "seed-1"}
    assert "teacher" in json.loads((folder / "history.json").read_text())[0]["loss"]
    assert "--teacher seed-1" in (folder / "README.md").read_text()
    answers = [
        load_engine(folder, name, "float32", cache=tmp_path / "engines").label(
            texts, lambda done: None
        )
        for name in ("torch", "openvino")
    ]
    assert np.abs(answers[0].embeddings - answers[1].embeddings).max() < 1e-4
