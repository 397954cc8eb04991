"""What a labelling task is, and the two this project ships: topic and sentiment.

The names "topic" and "sentiment" stand nowhere else in the code: everything reads them from here
or from a model's own configuration.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any


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
    """The official split on which results are reported; the same as ``train_split`` where there is
    none: then rows held out of training serve."""
    hub_name: str = ""
    hub_config: str | None = None
    folder: str = ""
    files: Mapping[str, str] = field(default_factory=dict)
    """A file (csv, jsonl or parquet) by split; empty for a task on the hub."""

    @property
    def name(self) -> str:
        """What to call the data in a card, without a machine's paths."""
        return self.hub_name or ", ".join(sorted({Path(f).name for f in self.files.values()}))

    @property
    def has_official_split(self) -> bool:
        """Whether there is a split to report on that training does not touch."""
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
    """The same where the backbone is frozen and the recommended preset trains; None: ``weight``."""
    descriptions: tuple[str, ...] = ()
    """A text for each label that says what it means, for zero-shot labelling; else the label."""


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
    # Its phrases overlap; with more, the projection overfits them (docs/training.md).
    frozen_weight=0.01,
    descriptions=(
        "A bad, boring, disappointing film; a negative review",
        "A good, moving, enjoyable film; a positive review",
    ),
)

DEFAULT_TASKS = (TOPIC, SENTIMENT)


def task_as_json(task: Task) -> dict[str, Any]:
    """A task as ``config.json`` and specs hold it; of a shipped one the name and labels suffice."""
    short = {"name": task.name, "labels": list(task.labels)}
    return short if task in DEFAULT_TASKS else asdict(task)


def task_from_json(raw: Mapping[str, Any]) -> Task:
    """The task again; a shipped one with its data source.

    Raises:
        KeyError, TypeError: not what :func:`task_as_json` writes.
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
