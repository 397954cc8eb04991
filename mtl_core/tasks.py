"""What a labelling task is, and the two this project ships: topic and sentiment.

The names "topic" and "sentiment" stand nowhere else in the code: everything reads them from here
or from a model's own configuration.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from mtl_core.errors import UnknownTaskError


@dataclass(frozen=True)
class TaskSource:
    """Where a task's labelled texts are, on the hub and in a local data folder.

    Locally a split is ``<data folder>/<folder>/<split>.parquet`` with the hub's own columns.
    """

    hub_name: str
    hub_config: str | None
    folder: str
    text_column: str
    label_column: str
    train_split: str
    evaluation_split: str
    """The official split on which results are reported."""


@dataclass(frozen=True)
class Task:
    """A single-label classification task: one linear head of the shared model."""

    name: str
    labels: tuple[str, ...]
    """Label names; a label's position is its class index."""
    source: TaskSource | None = None


TOPIC = Task(
    name="topic",
    labels=("World", "Sports", "Business", "Sci/Tech"),
    source=TaskSource(
        hub_name="fancyzhx/ag_news",
        hub_config=None,
        folder="ag_news",
        text_column="text",
        label_column="label",
        train_split="train",
        evaluation_split="test",
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
        train_split="train",
        # GLUE publishes no labels for SST-2's test split; results are reported on validation.
        evaluation_split="validation",
    ),
)

DEFAULT_TASKS = (TOPIC, SENTIMENT)


def task_named(name: str, tasks: Sequence[Task] = DEFAULT_TASKS) -> Task:
    """Return the task of that name.

    Raises:
        UnknownTaskError: none of ``tasks`` has that name.
    """
    for task in tasks:
        if task.name == name:
            return task
    known = ", ".join(task.name for task in tasks)
    raise UnknownTaskError(f"no task named '{name}'; there are: {known}")
