"""The labelling engine: texts in, classes, scores and embeddings out, each text encoded once.

Texts are tokenised, sorted by length and packed into batches by a budget of tokens (padding
counted), so that a batch costs the same whether it holds many short texts or few long ones.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from mtl_core.checkpoint import LoadedModel, load_model
from mtl_core.config import ModelConfig
from mtl_core.precision import best_device, supports_bfloat16
from mtl_core.tasks import Task

# Padded tokens in one batch. On a CPU, 2,048 to 4,096 were measured fastest
# (caches); a GPU wants enough rows to fill it.
CPU_BATCH_TOKENS = 4096
CUDA_BATCH_TOKENS = 65536


@dataclass(frozen=True)
class TaskLabels:
    """One task's answer for N texts."""

    task: Task
    classes: NDArray[np.int8]
    """Index of the most probable class, int8 [N]."""
    scores: NDArray[np.float32]
    """Probability of that class, float32 [N]."""


@dataclass(frozen=True)
class Labelled:
    """The engine's answer for N texts, in the order given."""

    labels: tuple[TaskLabels, ...]
    embeddings: NDArray[np.float32]
    """Unit vectors, float32 [N, E]."""
    truncated: NDArray[np.bool_]
    """Whether the text had more tokens than the model reads, bool [N]."""
    tokens: int
    """Tokens encoded, special tokens included, padding not."""


class Engine(Protocol):
    """What labels texts; built once and kept."""

    config: ModelConfig
    model_sha256: str
    name: str
    precision: str

    def label(self, texts: Sequence[str], progress: Callable[[int], None]) -> Labelled:
        """Label texts; ``progress`` is told the number of texts done after each batch."""
        ...


class TorchEngine:
    """PyTorch on the first GPU, or on the CPU with bfloat16 where the chip has it."""

    name = "torch"

    def __init__(
        self, loaded: LoadedModel, precision: str = "auto", batch_tokens: int | None = None
    ) -> None:
        self.device = best_device()
        if precision == "auto":
            precision = "bfloat16" if supports_bfloat16(self.device) else "float32"
        self.precision = precision
        self.batch_tokens = batch_tokens or (
            CUDA_BATCH_TOKENS if self.device.type == "cuda" else CPU_BATCH_TOKENS
        )
        self.config = loaded.model.config
        self.model_sha256 = loaded.sha256
        self._tokenizer = loaded.tokenizer
        self._model = loaded.model.to(self.device).eval()
        if precision == "bfloat16":
            # Only the backbone: pooling, projection and heads stay in float32.
            self._model.encoder.backbone.to(torch.bfloat16)

    def label(self, texts: Sequence[str], progress: Callable[[int], None]) -> Labelled:
        """Label texts in the order given.

        Args:
            texts: N texts.
            progress: called after each batch with the number of texts done so far; an exception
                it raises ends the call.
        """
        # One token more than the model reads tells a text that fits from one that was cut.
        limit = self._tokenizer.max_tokens
        ids = self._tokenizer(texts, limit + 1)
        lengths = np.fromiter(map(len, ids), dtype=np.int64, count=len(ids))
        truncated = lengths > limit
        for row in np.flatnonzero(truncated):
            ids[row] = [*ids[row][: limit - 1], ids[row][-1]]  # keeps the closing special token
        lengths = np.minimum(lengths, limit)
        embeddings = np.empty((len(ids), self.config.embedding_size), dtype=np.float32)
        classes = {task.name: np.empty(len(ids), dtype=np.int8) for task in self.config.tasks}
        scores = {task.name: np.empty(len(ids), dtype=np.float32) for task in self.config.tasks}
        done = 0
        with torch.inference_mode():
            for rows in token_batches(lengths, self.batch_tokens):
                input_ids, mask = self._tokenizer.pad([ids[row] for row in rows])
                embedding, logits = self._model.forward_all(
                    input_ids.to(self.device), mask.to(self.device)
                )
                embeddings[rows] = embedding.cpu().numpy()
                for task, values in logits.items():
                    best = torch.softmax(values, dim=-1).max(dim=-1)
                    classes[task][rows] = best.indices.cpu().numpy()
                    scores[task][rows] = best.values.cpu().numpy()
                done += len(rows)
                progress(done)
        labels = tuple(
            TaskLabels(task, classes[task.name], scores[task.name]) for task in self.config.tasks
        )
        return Labelled(labels, embeddings, truncated, int(lengths.sum()))


def token_batches(lengths: NDArray[np.int64], budget: int) -> Iterator[NDArray[np.int64]]:
    """Cut rows into batches of like length whose padded size stays within a budget.

    Args:
        lengths: tokens of each row, int64 [N].
        budget: tokens, padding counted; a single longer row makes a batch of its own.
    Yields:
        row numbers, longest texts first, every row once. Longest first: if memory is short, the
        first batch shows it, not the last.
    """
    order = np.argsort(-lengths, kind="stable")
    start = 0
    while start < len(order):
        rows = max(1, budget // max(1, int(lengths[order[start]])))
        yield order[start : start + rows]
        start += rows


def load_engine(folder: Path, precision: str = "auto") -> Engine:
    """Load a model directory into the best engine for this machine.

    Raises:
        ModelError: the directory is incomplete or damaged.
        BackboneError: its backbone is missing or is not the one it was trained on.
    """
    return TorchEngine(load_model(folder), precision)
