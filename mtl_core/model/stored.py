"""Embeddings of some rows that a model was trained on, kept in its folder without their texts.

New heads for the same encoder are trained on them beside checked rows (:mod:`mtl_core.training.
heads`), so that no training data and no backbone are needed for it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mtl_core.model.task_arrays import read_arrays, write_arrays

STORED = "embeddings.safetensors"
STORED_BYTES = 2_400_000
"""Size of the file, at most, about."""
HELD_OUT_SHARE = 4
"""One row of so many is one that was held out of training."""
PARTS = ("embeddings", "labels", "held_out")
ENCODER = "encoder_sha256"


class Rows(NamedTuple):
    """Embeddings of rows with their labels."""

    embeddings: NDArray[np.float32]
    """float32 [N, E]."""
    labels: NDArray[np.int64]
    """int64 [N]."""

    @property
    def number(self) -> int:
        """How many rows."""
        return len(self.labels)

    def of(self, rows: NDArray[np.integer] | NDArray[np.bool_]) -> "Rows":
        """Some of them."""
        return Rows(self.embeddings[rows], self.labels[rows])

    def joined(self, more: "Rows") -> "Rows":
        """These, and more behind them."""
        return Rows(
            np.concatenate([self.embeddings, more.embeddings]),
            np.concatenate([self.labels, more.labels]),
        )


@dataclass(frozen=True)
class StoredRows:
    """Some of a task's rows."""

    embeddings: NDArray[np.float16]
    """float16 [N, E]."""
    labels: NDArray[np.uint16]
    """uint16 [N]."""
    held_out: NDArray[np.uint8]
    """Whether a row was held out of training, 0 or 1, uint8 [N]."""

    def part(self, *, held_out: bool) -> Rows:
        """Those that were held out of training, or the others."""
        rows = self.held_out == held_out
        return Rows(self.embeddings[rows].astype(np.float32), self.labels[rows].astype(np.int64))


def rows_to_store(tasks: int, size: int) -> int:
    """How many rows of each task fit into :data:`STORED_BYTES` at an embedding size."""
    return STORED_BYTES // max(1, tasks) // (2 * size + 3)


def write_stored(folder: Path, tasks: Mapping[str, StoredRows], encoder: str) -> None:
    """Write all tasks' rows into a model's folder, whole or not at all.

    Args:
        encoder: :func:`mtl_core.model.identity.encoder_sha256` of the model; another encoder has
            no use for them.
    """
    arrays = {task: {part: getattr(rows, part) for part in PARTS} for task, rows in tasks.items()}
    write_arrays(folder / STORED, arrays, {ENCODER: encoder})


def read_stored(folder: Path, encoder: str) -> dict[str, StoredRows]:
    """The rows stored for a model's tasks; empty if its folder has none for this encoder.

    Raises:
        ModelError: the file is damaged.
    """
    found: dict[str, Any] = read_arrays(folder / STORED, PARTS, {ENCODER: encoder})
    return {task: StoredRows(*arrays) for task, arrays in found.items()}
