"""Models side by side: figures, the best marked, one page that needs nothing else."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from support import Mtl

from mtl_core.config import ModelConfig, train_config
from mtl_core.errors import ModelError
from mtl_core.evaluation import plots
from mtl_core.evaluation.compare import comparison, comparison_page
from mtl_core.evaluation.facts import read_facts
from mtl_core.model.registry import ModelEntry
from mtl_core.storage.folder import Folder
from mtl_core.training.run import TrainingRun


@pytest.fixture(scope="module")
def models(
    made_data: Path, tiny_backbone: Path, tmp_path_factory: pytest.TempPathFactory
) -> list[ModelEntry]:
    folder = tmp_path_factory.mktemp("models")
    for scenario in ("frozen", "full"):
        config = train_config("recommended", scenario=scenario, epochs=2, precision="float32")
        TrainingRun(
            config, ModelConfig(backbone=str(tiny_backbone)), made_data, folder / scenario,
            name=scenario, command=f"mtl train --scenario {scenario}",
        ).run()  # fmt: skip
    return [ModelEntry(name, Folder(folder / name), shipped=False) for name in ("frozen", "full")]


def test_the_table_holds_each_tasks_figures_and_marks_the_best(models: list[ModelEntry]) -> None:
    columns = {column.title: column for column in comparison([read_facts(m) for m in models])}
    assert {"topic accuracy", "sentiment F1", "topic ECE", "trained parameters"} <= set(columns)
    assert columns["trained parameters"].values[0] == 0
    assert columns["trained parameters"].best is None
    accuracy = columns["topic accuracy"]
    assert accuracy.best == max(value for value in accuracy.values if value is not None)
    zero_shot = columns["topic zero-shot"].values
    assert zero_shot[0] is not None
    assert zero_shot[1] is None


def test_the_page_needs_nothing_from_elsewhere(models: list[ModelEntry]) -> None:
    page = comparison_page([read_facts(m) for m in models])
    assert page.count("<svg") == 1 + 2 + 4  # curves; calibration a task; confusion a model and task
    without_names = re.sub(r'xmlns(:\w+)?="[^"]*"', "", page)
    assert not re.search(r'(src|href)="(?!#|data:)', without_names)
    assert "<script" not in page
    assert page.count('role="img" aria-label=') == page.count("<svg")


def test_a_text_cannot_inject_markup(models: list[ModelEntry]) -> None:
    facts = read_facts(models[1])
    facts.metrics["samples"]["topic"][0]["text"] = "<script>alert(1)</script>"
    assert "<script>" not in comparison_page([facts])


def test_a_model_without_metrics_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="model 'x' keeps no readable metrics"):
        read_facts(ModelEntry("x", Folder(tmp_path), shipped=False))


def test_compare_prints_a_table_json_and_a_page(
    models: list[ModelEntry], mtl: Mtl, tmp_path: Path
) -> None:
    folders = [model.folder for model in models]
    ran = mtl("compare", *folders, "-o", "compare.html")
    assert ran.code == 0, ran.err
    assert "topic accuracy" in ran.out
    assert "* " in ran.out, "the best is marked without a colour"
    assert (tmp_path / "compare.html").stat().st_size > 10_000
    assert len(json.loads(mtl("compare", *folders, "--json").out)) == 2


@pytest.mark.slow
def test_all_scenarios_are_jobs_of_their_own_and_compared(
    mtl: Mtl, made_data: Path, tiny_backbone: Path
) -> None:
    ran = mtl(
        "train", "--all-scenarios", "--name", "t", "--data", made_data, "--backbone", tiny_backbone,
        "--epochs", "1", timeout=280,
    )  # fmt: skip
    assert ran.code == 0, ran.err
    for scenario in ("frozen", "freeze-backbone", "freeze-topic-head", "last-layers", "full"):
        assert f"t-{scenario}" in ran.out
    assert "topic accuracy" in ran.out


def test_of_many_labels_the_matrix_shows_those_with_most_mistakes() -> None:
    counts = np.diag(np.full(1000, 9))
    counts[7, 900] = counts[500, 7] = 3
    labels = [f"label-{number}" for number in range(1000)]
    drawn = str(plots.confusion(counts.tolist(), labels, "m: many"))
    assert "m: many, 30 of 1,000 labels" in drawn
    assert all(f">label-{number}<" in drawn for number in (7, 500, 900))
    assert ">label-800<" not in drawn
