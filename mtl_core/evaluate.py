"""A model's accuracy, precision, recall and F1 on the official split of each of its tasks."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from mtl_core.data import load_split
from mtl_core.errors import DataError
from mtl_core.metrics import classification_metrics
from mtl_core.model import MultiTaskModel
from mtl_core.tasks import Task
from mtl_core.tokenizer import Tokenizer
from mtl_core.train import encode_texts, predict_classes


def evaluate_model(
    model: MultiTaskModel,
    tokenizer: Tokenizer,
    data_dir: Path | None,
    *,
    tasks: Sequence[Task] | None = None,
    precision: str = "auto",
    report: Callable[[str], None] = lambda task: None,
) -> dict[str, dict[str, Any]]:
    """Score every task of a model on its official evaluation split.

    Args:
        data_dir: folder with ``<task folder>/<split>.parquet``; None loads from the hub.
        tasks: which tasks; all of the model's by default.
        precision: ``auto`` (bfloat16 where the chip has it), ``bfloat16`` or ``float32``.
        report: called with a task's name before it is scored.
    Returns:
        by task, what :func:`mtl_core.metrics.classification_metrics` gives.
    Raises:
        DataError: a task names no data, or its split is missing or malformed.
    """
    scores: dict[str, dict[str, Any]] = {}
    for task in tasks if tasks is not None else model.config.tasks:
        if task.source is None:
            raise DataError(f"task '{task.name}' names no data to evaluate on")
        report(task.name)
        data = load_split(task, task.source.evaluation_split, data_dir)
        encoded = encode_texts(data, tokenizer, tokenizer.max_tokens)
        predicted = predict_classes(model, tokenizer, task.name, encoded, precision)
        scores[task.name] = classification_metrics(task, data.labels, predicted)
    return scores
