"""Whole training runs: their own rows alone, every stage heard, and tasks of many labels."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
import torch
from loops import loop_over
from loops import settings as run_settings
from support import WORDS, made_texts

from mtl_core.config import ModelConfig, train_config
from mtl_core.engine.torch_engine import TorchEngine
from mtl_core.errors import ModelError
from mtl_core.model.network import load_model
from mtl_core.storage.parquet import dictionary_column, label_fields
from mtl_core.tasks import TOPIC
from mtl_core.training.run import TrainingRun

# --- the same run only over the same rows


def test_stored_vectors_and_checkpoints_are_those_of_the_rows_they_were_made_from(
    tiny_backbone: Path, tmp_path: Path
) -> None:
    texts, labels = made_texts("topic", 80, seed=5)
    (tmp_path / "ag_news").mkdir()

    def train(texts: list[str], labels: list[int], checkpoints: Path) -> str:
        table = pa.table({"text": texts, "label": pa.array(labels, pa.int64())})
        for split in ("train", "test"):
            pq.write_table(table, tmp_path / "ag_news" / f"{split}.parquet")
        return (
            TrainingRun(
                run_settings(scenario="freeze-backbone", epochs=2, keep_overlap=True),
                ModelConfig(backbone=str(tiny_backbone), tasks=(TOPIC,)),
                *(tmp_path, tmp_path / "m"),
                name="m",
                command="",
                checkpoint_dir=checkpoints,
            )
            .run()
            .sha256
        )

    train(texts, labels, tmp_path / "c")
    for number, (others, classes) in enumerate(
        [(texts[::-1], labels[::-1]), (texts, [3 - label for label in labels])]
    ):
        fresh = train(others, classes, tmp_path / f"fresh{number}")
        assert train(others, classes, tmp_path / "c") == fresh
        assert train(others, classes, tmp_path / "c") == fresh  # from its own checkpoint


@pytest.mark.parametrize(
    ("preset", "scenario"), [("recommended", "freeze-backbone"), ("reference", "full")]
)
def test_rows_with_a_wrong_label_are_listed_counted_and_trained_on(
    preset: str, scenario: str, tiny_backbone: Path, tmp_path: Path
) -> None:
    texts, labels = made_texts("topic", 400, seed=5)
    wrong = set(range(0, 400, 40))
    given = [(label + 1) % 4 if row in wrong else label for row, label in enumerate(labels)]
    (tmp_path / "ag_news").mkdir()
    table = pa.table({"text": texts, "label": pa.array(given, pa.int64())})
    for split in ("train", "test"):
        pq.write_table(table, tmp_path / "ag_news" / f"{split}.parquet")
    TrainingRun(
        train_config(preset, scenario, epochs=1, held_out_fraction=0.2, keep_overlap=True),
        ModelConfig(backbone=str(tiny_backbone), tasks=(TOPIC,)),
        *(tmp_path, tmp_path / "m"),
        name="m",
        command="",
    ).run()
    listed = pyarrow.csv.read_csv(tmp_path / "m/suspects.csv").to_pylist()
    assert {row["task"] for row in listed} == {"topic"}
    truth = {text: TOPIC.labels[label] for text, label in zip(texts, labels, strict=True)}
    # The backbone is random, and so it tells only some of them; by chance it would be none.
    assert sum(row["label"] != truth[row["text"]] for row in listed) >= 2
    metrics = json.loads((tmp_path / "m/metrics.json").read_text())
    counts = metrics["suspects"]["topic"]
    assert counts["suspected"] == counts["listed"] == len(listed)
    rows = json.loads((tmp_path / "m/config.json").read_text())["training"]["rows"]["topic"]
    assert counts["rows"] == rows
    card = (tmp_path / "m/README.md").read_text()
    assert f"the labels of {len(listed)} of {rows} rows are contradicted" in card


def test_a_training_that_diverges_makes_no_model(made_data: Path, tiny_backbone: Path) -> None:
    loop, model = loop_over(made_data, tiny_backbone, run_settings())
    with torch.no_grad():
        model.heads["topic"].weight.fill_(float("nan"))
    with pytest.raises(ModelError, match="training diverged: the loss of task 'topic' is nan"):
        loop.run()


def test_every_stage_of_a_run_pulses_and_ends_when_it_is_told_to(
    made_data: Path, tiny_backbone: Path, tmp_path: Path
) -> None:
    class Leaving(Exception):
        pass

    stages: list[str] = []
    leave_in = ""

    def pulse() -> None:
        pulses[stages[-1]] = pulses.get(stages[-1], 0) + 1
        if stages[-1] == leave_in:
            raise Leaving

    def train() -> None:
        stages.clear()
        TrainingRun(
            run_settings(scenario="freeze-backbone"),
            ModelConfig(backbone=str(tiny_backbone)),
            *(made_data, tmp_path / "m"),
            name="m",
            command="",
            stage=stages.append,
            pulse=pulse,
        ).run()

    pulses: dict[str, int] = {}
    train()
    every = list(stages)
    assert set(pulses) == set(every) == {*EARLY_STAGES, *LATE_STAGES}
    for leave_in in every:
        with pytest.raises(Leaving):
            train()
        assert stages[-1] == leave_in


EARLY_STAGES = ("data", "model", "encode", "train")
LATE_STAGES = ("calibrate", "suspects", "evaluate", "save")


# --- many labels


def test_a_task_of_two_hundred_labels_is_trained_and_answers_by_the_last_of_them(
    tiny_backbone: Path, tmp_path: Path
) -> None:
    names = tuple(f"label {number}" for number in range(200))
    generator = np.random.default_rng(4)
    words = [word for groups in WORDS.values() for text in groups for word in text.split()]
    texts = [" ".join(generator.choice(words, 6)) for _ in range(200)]
    task = replace(TOPIC, name="many", labels=names, source=replace(TOPIC.source, folder="many"))
    (tmp_path / "many").mkdir()
    table = pa.table({"text": texts * 3, "label": list(range(200)) * 3})
    for split in ("train", "test"):
        pq.write_table(table, tmp_path / "many" / f"{split}.parquet")
    TrainingRun(
        run_settings(
            scenario="freeze-backbone", epochs=30, head_learning_rate=0.03, keep_overlap=True
        ),
        ModelConfig(backbone=str(tiny_backbone), tasks=(task,)),
        *(tmp_path, tmp_path / "m"),
        name="m",
        command="",
    ).run()
    answer = TorchEngine(load_model(tmp_path / "m"), "float32").label(texts, lambda done: None)
    column = dictionary_column(answer.labels[0].classes, names)
    assert column.type == label_fields([task], 8, "none")[0].type
    right = np.array(column.to_pylist()) == np.array(names)
    assert right[128:].mean() > 0.1  # by chance 0.005
