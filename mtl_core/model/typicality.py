"""Typicality: how usual a text is among the texts that a task was trained on.

A head answers on every text, also on one that its question does not fit, and its score does not say
so. The distance of the text's embedding from those of the training texts does: here that of
Mahalanobis to the nearest class mean, with one covariance for all classes (Lee et al. 2018, "A
simple unified framework for detecting out-of-distribution samples and adversarial attacks"). A
distance alone means little to a reader. So it is given as the share of held-out texts that are at
least as far, which is a conformal p-value (Vovk et al. 2005; Bates et al. 2023, "Testing for
outliers with conformal p-values"): of texts like those held out, a share of p has at most p. The
word is from Yuksekgonul et al. 2023, "Beyond confidence: reliable models should also consider
atypicality".

Typicality is computed from embeddings, beside the engines, by numpy alone: every engine, the cache
of answers and stored embeddings give the same.

Legend of shapes: N texts, E embedding size, C classes, M held-out texts.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mtl_core.model.config import TYPICALITY
from mtl_core.model.task_arrays import read_arrays, write_arrays

MODEL = "model_sha256"
PARTS = ("means", "whitening", "distances")


@dataclass(frozen=True)
class Typicality:
    """One task's statistics."""

    means: NDArray[np.float32]
    """The mean embedding of each class that the training rows hold, whitened, float32 [C, E]."""
    whitening: NDArray[np.float32]
    """Makes the classes' shared covariance the unit matrix, float32 [E, E]."""
    distances: NDArray[np.float32]
    """Squared distances of the held-out texts, ascending, float32 [M]."""

    def distance(self, embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
        """Squared Mahalanobis distances to the nearest class mean, float32 [N].

        Args:
            embeddings: float32 [N, E].
        """
        whitened = embeddings @ self.whitening
        to_means = np.einsum("ce,ce->c", self.means, self.means) - 2 * whitened @ self.means.T
        squares = np.einsum("ne,ne->n", whitened, whitened)
        distances: NDArray[np.float32] = squares + to_means.min(axis=1)
        return distances

    def typicality(self, embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
        """The share of held-out texts at least as far as each text, float32 [N], in (0, 1].

        The text itself is counted among them, as a conformal p-value has it.

        Args:
            embeddings: float32 [N, E].
        """
        count = len(self.distances)
        nearer = np.searchsorted(self.distances, self.distance(embeddings), side="left")
        return ((1 + count - nearer) / (1 + count)).astype(np.float32)


def write_typicality(folder: Path, tasks: Mapping[str, Typicality], model_sha256: str) -> None:
    """Write all tasks' statistics into a model's folder, whole or not at all.

    Args:
        model_sha256: of the weights that gave the embeddings; other weights have no use for them.
    """
    arrays = {
        task: {part: getattr(statistics, part).astype(np.float32) for part in PARTS}
        for task, statistics in tasks.items()
    }
    write_arrays(folder / TYPICALITY, arrays, {MODEL: model_sha256})


def read_typicality(folder: Path, model_sha256: str) -> dict[str, Typicality]:
    """The statistics of a model's tasks; empty if its folder has none for these weights.

    Raises:
        ModelError: the file is damaged.
    """
    found: dict[str, Any] = read_arrays(folder / TYPICALITY, PARTS, {MODEL: model_sha256})
    return {task: Typicality(*arrays) for task, arrays in found.items()}
