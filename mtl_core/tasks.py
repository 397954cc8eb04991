"""What a labelling task is, and the two this project ships: topic and sentiment.

The names "topic" and "sentiment" stand nowhere else in the code: everything reads them from here
or from a model's own configuration.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mtl_core.errors import ModelError


@dataclass(frozen=True)
class TaskSource:
    """Where a task's labelled texts are: on the hub, in a data folder, or in files of its own.

    In a data folder a split is ``<data folder>/<folder>/<split>.parquet`` with the hub's columns.
    """

    text_column: str
    label_column: str
    """Holds class indices or label names."""
    train_split: str = "train"
    evaluation_split: str = "test"
    """The official split on which results are reported. A task without an official split has
    ``train_split`` here; its results are reported on rows held out of training."""
    hub_name: str = ""
    hub_config: str | None = None
    folder: str = ""
    files: Mapping[str, str] = field(default_factory=dict)
    """Split to data file (csv, jsonl or parquet); empty for a task on the hub."""

    @property
    def name(self) -> str:
        """Name of the data for a model's card; it holds no paths of a machine."""
        return self.hub_name or ", ".join(sorted({Path(f).name for f in self.files.values()}))

    @property
    def has_official_split(self) -> bool:
        """Whether results are reported on a split of their own, which training does not touch."""
        return self.evaluation_split != self.train_split


@dataclass(frozen=True)
class Task:
    """A single-label classification task: one linear head of the shared model."""

    name: str
    labels: tuple[str, ...]
    """Label names; a label's position is its class index."""
    source: TaskSource | None = None
    weight: float = 1.0
    """Factor on the task's loss."""
    frozen_weight: float | None = None
    """Factor on the task's loss where the recommended preset trains with the backbone frozen; None:
    ``weight``."""
    descriptions: tuple[str, ...] = ()
    """For each label a text that says what it means, for zero-shot labelling. If empty, the labels
    themselves are used."""


TOPIC = Task(
    name="topic",
    labels=("World", "Sports", "Business", "Sci/Tech"),
    source=TaskSource(
        hub_name="fancyzhx/ag_news",
        folder="ag_news",
        text_column="text",
        label_column="label",
    ),
    descriptions=(
        "World politics, war, government and international news",
        "Sports: games, teams, players and championships",
        "Business, companies, markets, economy and money",
        "Science and technology: computers, software, internet and space",
    ),
)

SENTIMENT = Task(
    name="sentiment",
    labels=("Negative", "Positive"),
    source=TaskSource(
        hub_name="nyu-mll/glue",
        hub_config="sst2",
        folder="sst2",
        text_column="sentence",
        label_column="label",
        # GLUE publishes no labels for SST-2's test split; results are reported on validation.
        evaluation_split="validation",
    ),
    # The phrases of SST-2 overlap; a greater weight makes the projection overfit them
    # (docs/training.md).
    frozen_weight=0.01,
    descriptions=(
        "A bad, boring, disappointing film; a negative review",
        "A good, moving, enjoyable film; a positive review",
    ),
)

DEFAULT_TASKS = (TOPIC, SENTIMENT)


def any_own_files(tasks: Sequence[Task]) -> bool:
    """Whether a task has files of its own; the hub is then not asked for STS-B."""
    return any(task.source is not None and task.source.files for task in tasks)


def task_as_json(task: Task) -> dict[str, Any]:
    """A task as ``config.json`` and specs hold it; for a shipped task only its name and labels."""
    short = {"name": task.name, "labels": list(task.labels)}
    return short if task in DEFAULT_TASKS else asdict(task)


def task_from_json(raw: Mapping[str, Any]) -> Task:
    """Read a task that :func:`task_as_json` wrote; a shipped task gets its data source back.

    Raises:
        KeyError, TypeError: ``raw`` is not what :func:`task_as_json` writes.
    """
    for task in DEFAULT_TASKS:
        if raw == {"name": task.name, "labels": list(task.labels)}:
            return task
    source = raw.get("source")
    return Task(
        name=raw["name"],
        labels=tuple(raw["labels"]),
        source=TaskSource(**source) if source else None,
        weight=float(raw.get("weight", 1.0)),
        frozen_weight=raw.get("frozen_weight"),
        descriptions=tuple(raw.get("descriptions", ())),
    )


def demand_answers(models: Mapping[str, Sequence[Task]], tasks: Sequence[Task]) -> None:
    """Check that some model answers each task.

    Args:
        models: the tasks of each model, by its name.
    Raises:
        ModelError: none answers some task, or one has other labels for it.
    """
    for task in tasks:
        found = {name: own for name, all in models.items() for own in all if own.name == task.name}
        if not found:
            raise ModelError(f"no teacher ({', '.join(models)}) has a task '{task.name}'")
        for name, own in found.items():
            if own.labels != task.labels:
                raise ModelError(
                    f"teacher '{name}' has other labels for task '{task.name}': "
                    f"{', '.join(own.labels)} instead of {', '.join(task.labels)}"
                )
