"""Tasks of the user's own: read from TOML, trained beside those shipped, written by labelling."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from support import Mtl, made_texts

from mtl_core.errors import SettingsError
from mtl_core.model.task_file import read_task_file
from mtl_core.tasks import DEFAULT_TASKS, task_as_json, task_from_json

URGENCY = """
[urgency]
labels = ["low", "high"]
train = "urgency.csv"
label_column = "level"
weight = 0.5
frozen_weight = 0.05
"""


@pytest.fixture
def urgency(tmp_path: Path) -> Path:
    texts, labels = made_texts("sentiment", 120, seed=9)
    rows = [f"{text},{('low', 'high')[label]}" for text, label in zip(texts, labels, strict=True)]
    (tmp_path / "urgency.csv").write_text("\n".join(["text,level", *rows]) + "\n")
    (tmp_path / "tasks.toml").write_text(URGENCY)
    return tmp_path / "tasks.toml"


def test_a_table_adds_a_task_to_those_shipped(urgency: Path) -> None:
    tasks = read_task_file(urgency)
    assert [task.name for task in tasks] == ["topic", "sentiment", "urgency"]
    assert tasks[2].labels == ("low", "high")
    assert (tasks[2].weight, tasks[2].frozen_weight) == (0.5, 0.05)
    assert tasks[2].source is not None
    assert not tasks[2].source.has_official_split


def test_keep_names_the_shipped_tasks_to_keep(urgency: Path) -> None:
    urgency.write_text('keep = ["topic"]\n' + URGENCY)
    assert [task.name for task in read_task_file(urgency)] == ["topic", "urgency"]


def test_a_task_survives_json(urgency: Path) -> None:
    for task in read_task_file(urgency):
        assert task_from_json(json.loads(json.dumps(task_as_json(task)))) == task
    assert task_as_json(DEFAULT_TASKS[0]).keys() == {"name", "labels"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[urgency]\nlabels = ['a', 'b']\n", r"\[urgency\] train: Field required"),
        ("[urgency]\nlabels = ['a']\ntrain = 'x'\n", r"\[urgency\] labels"),
        ("[urgency]\nlabels = ['a', 'a']\ntrain = 'x'\n", "a label is there twice"),
        ("[embedding]\nlabels = ['a', 'b']\ntrain = 'x'\n", "name of an output column"),
        ("[x]\nlabels = ['a', 'b']\ntrain = 'x'\ncolour = 1\n", r"\[x\] colour"),
        ("[x_typicality]\nlabels = ['a', 'b']\ntrain = 'x'\n", "the name of an output column"),
        ("keep = ['mood']\n", "no shipped task 'mood'"),
        ("keep = []\n", "no task is left"),
        ("[[", "not TOML"),
    ],
)
def test_a_mistake_is_named_with_file_and_key(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "tasks.toml"
    path.write_text(text)
    with pytest.raises(SettingsError, match=message) as error:
        read_task_file(path)
    assert "tasks.toml" in str(error.value)


@pytest.mark.slow
def test_a_third_head_is_trained_and_its_columns_written(
    urgency: Path, made_data: Path, tiny_backbone: Path, mtl: Mtl, tmp_path: Path
) -> None:
    ran = mtl(
        "train", "--scenario", "freeze-urgency-head", "--name", "desk", "--data", made_data,
        "--tasks", urgency, "--backbone", tiny_backbone,
    )  # fmt: skip
    assert ran.code == 0, ran.err
    assert "urgency: accuracy" in ran.out
    (tmp_path / "in.txt").write_text("please call now\nno hurry\n")
    ran = mtl("label", "in.txt", "-o", "out", "--model", "desk")
    assert ran.code == 0, ran.err
    table = pq.read_table(tmp_path / "out")
    assert {"topic", "sentiment", "urgency", "urgency_score", "urgency_typicality"} <= set(
        table.column_names
    )
    assert set(table["urgency"].to_pylist()) <= {"low", "high"}
    ran = mtl("evaluate", "desk", "--data", made_data)
    assert "urgency: accuracy" in ran.out
    assert "held-out" in ran.out


def test_a_scenario_for_a_head_there_is_not_gets_a_suggestion(mtl: Mtl, made_data: Path) -> None:
    ran = mtl("train", "--scenario", "freeze-topc-head", "--name", "m", "--data", made_data)
    assert ran.code == 2
    assert "did you mean 'freeze-topic-head'?" in ran.err
    assert ran.err.count("\n") == 1


def test_a_missing_file_of_a_task_is_named(mtl: Mtl, urgency: Path, made_data: Path) -> None:
    (urgency.parent / "urgency.csv").unlink()
    ran = mtl(
        "train", "--scenario", "full", "--name", "m", "--data", made_data, "--tasks", urgency
    )  # fmt: skip
    assert ran.code == 2
    assert "urgency.csv" in ran.err
