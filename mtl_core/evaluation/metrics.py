"""Accuracy, precision, recall and F1 of one task, by scikit-learn."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mtl_core.tasks import Task


def classification_metrics(
    task: Task, expected: NDArray[np.int64], predicted: NDArray[np.int64]
) -> dict[str, Any]:
    """Score predictions against expected classes.

    Args:
        expected, predicted: class indices, int64 [N] each.
    Returns:
        ``accuracy``, macro-averaged ``precision``, ``recall`` and ``f1``, ``rows``, the same
        three for each class under ``per_class``, and the ``confusion`` matrix (row: expected).
    """
    from sklearn.metrics import accuracy_score, confusion_matrix, precision_recall_fscore_support

    classes = list(range(len(task.labels)))
    options: dict[str, Any] = {"labels": classes, "zero_division": 0.0}
    precision, recall, f1, _ = precision_recall_fscore_support(
        expected, predicted, average="macro", **options
    )
    by_class = precision_recall_fscore_support(expected, predicted, average=None, **options)
    return {
        "accuracy": float(accuracy_score(expected, predicted)),
        "precision": float(precision),
        "recall": float(recall),
        "f1": float(f1),
        "rows": len(expected),
        "per_class": {
            label: {
                "precision": float(by_class[0][index]),
                "recall": float(by_class[1][index]),
                "f1": float(by_class[2][index]),
                "rows": int(by_class[3][index]),
            }
            for index, label in enumerate(task.labels)
        },
        "confusion": confusion_matrix(expected, predicted, labels=classes).tolist(),
    }
