"""A model's heads alone, by numpy: labels from embeddings that are there already.

Legend of shapes: N texts, E embedding size, C classes.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from mtl_core.config import ModelConfig
from mtl_core.engine.base import Labelled, TaskLabels, demand_numbers
from mtl_core.errors import ModelError
from mtl_core.files import file_sha256
from mtl_core.model.config import WEIGHTS, read_model_config


@dataclass(frozen=True)
class Heads:
    """The heads of a model, with their scales and temperatures."""

    config: ModelConfig
    model_sha256: str
    weights: Mapping[str, NDArray[np.float32]]
    """By task float32 [E, C]: scale and temperature are in them."""
    biases: Mapping[str, NDArray[np.float32]]
    """By task float32 [C], likewise."""

    def label(self, embeddings: NDArray[np.float32], truncated: NDArray[np.bool_]) -> Labelled:
        """Label embeddings as the engines do those they compute.

        Args:
            embeddings: float32 [N, E].
            truncated: whether the text had more tokens than the model reads, bool [N].
        Raises:
            FloatingPointError: an answer holds NaN or infinity.
        """
        labels = tuple(
            TaskLabels(
                task, _softmax(embeddings @ self.weights[task.name] + self.biases[task.name])
            )
            for task in self.config.tasks
        )
        labelled = Labelled(labels, embeddings, truncated, np.zeros(len(embeddings), np.int64))
        demand_numbers(labelled)
        return labelled


def _softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares: NDArray[np.float32] = powers / powers.sum(axis=1, keepdims=True)
    return shares


def read_heads(folder: Path) -> Heads:
    """Read the heads of a model's directory; neither torch nor the backbone is loaded.

    Raises:
        ModelError: the directory is incomplete or damaged.
    """
    config, path = read_model_config(folder), folder / WEIGHTS
    weights, biases = {}, {}
    try:
        with safe_open(str(path), framework="np") as stream:
            for task in config.tasks:
                scale = stream.get_tensor(f"logit_scales.{task.name}").astype(np.float32)
                factor = scale / np.float32(config.calibration_of(task.name).temperature)
                head = f"heads.{task.name}"
                weights[task.name] = (
                    stream.get_tensor(f"{head}.weight").T.astype(np.float32) * factor
                )
                biases[task.name] = stream.get_tensor(f"{head}.bias").astype(np.float32) * factor
        return Heads(config, file_sha256(path), weights, biases)
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{path} cannot be read: {error}") from error
