"""Models side by side: one table, and one self-contained HTML page with curves and matrices."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mtl_core import pages
from mtl_core.evaluation.facts import ModelFacts
from mtl_core.files import write_text


@dataclass(frozen=True)
class Column:
    """One figure of all models; the best value is marked."""

    title: str
    values: tuple[float | None, ...]
    format: str
    higher_is_better: bool | None = True
    """None: no value is better than another."""

    @property
    def best(self) -> float | None:
        """The value to mark; None where there is nothing to compare."""
        known = [value for value in self.values if value is not None]
        if self.higher_is_better is None or len(set(known)) < 2:
            return None
        return max(known) if self.higher_is_better else min(known)

    def text(self, row: int) -> str:
        """A value as it is shown."""
        value = self.values[row]
        return "–" if value is None else format(value, self.format)


def comparison(models: Sequence[ModelFacts]) -> list[Column]:
    """The table's columns: metrics by task, calibration, STS-B, parameters and time."""
    columns: list[Column] = []

    def add(title: str, values: list[float | None], form: str, higher: bool | None) -> None:
        if any(value is not None for value in values):
            columns.append(Column(title, tuple(values), form, higher))

    for task in dict.fromkeys(task for model in models for task in model.tasks):
        for key, title in (("accuracy", "accuracy"), ("f1", "F1")):
            values = [_at(m.metrics, "official", task, key) for m in models]
            add(f"{task} {title}", values, ".4f", True)
        add(
            f"{task} accuracy, unseen rows",
            [_at(m.metrics, "official", task, "unseen", "accuracy") for m in models],
            ".4f",
            True,
        )
        add(
            f"{task} ECE",
            [_at(m.metrics, "calibration", task, "ece_after") for m in models],
            ".4f",
            False,
        )
        add(
            f"{task} zero-shot",
            [_at(m.metrics, "zero_shot", task, "accuracy") for m in models],
            ".4f",
            True,
        )
    add("STS-B", [_at(m.metrics, "stsb", "spearman") for m in models], ".4f", True)
    add("trained parameters", [_at(m.metrics, "trained_parameters") for m in models], ",.0f", None)
    add("seconds", [_at(m.metrics, "seconds") for m in models], ",.0f", False)
    return columns


def _at(value: Any, *keys: str) -> float | None:
    for key in keys:
        if not isinstance(value, dict) or key not in value:
            return None
        value = value[key]
    return None if value is None else float(value)


def comparison_page(models: Sequence[ModelFacts]) -> str:
    """One self-contained HTML page: table, curves, confusion matrices, calibration, mistakes."""
    from mtl_core.evaluation import plots

    tasks = list(dict.fromkeys(task for model in models for task in model.tasks))
    return pages.render(
        "mtl_core.evaluation",
        "compare.html",
        models=models,
        columns=comparison(models),
        tasks=tasks,
        curves=plots.learning_curves(models, tasks),
        reliability={task: plots.reliability(models, task) for task in tasks},
        confusion={
            (model.name, task): plots.confusion(
                model.metrics["official"][task]["confusion"],
                list(model.metrics["official"][task]["per_class"]),
                f"{model.name}: {task}",
            )
            for model in models
            for task in model.tasks
        },
    )


def write_comparison(models: Sequence[ModelFacts], path: Path) -> None:
    """Write :func:`comparison_page` to a file, whole or not at all."""
    write_text(path, comparison_page(models))
