"""The labelling engine: texts in, classes, scores and embeddings out, each text encoded once.

Texts are tokenised, sorted by length and packed into batches by a budget of tokens (padding
counted), so that a batch costs the same whether it holds many short texts or few long ones.
"""

import logging
from collections import deque
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

log = logging.getLogger(__name__)


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
    too_large: tuple[int, ...] = ()
    """Texts for which memory did not suffice even alone; what stands for them means nothing."""


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
        too_large: list[int] = []
        done = 0
        waiting = deque(token_batches(lengths, self.batch_tokens))
        while waiting:
            rows = waiting.popleft()
            try:
                batch_embeddings, batch_logits = self._forward([ids[row] for row in rows])
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
                if len(rows) == 1:
                    too_large.append(int(rows[0]))
                else:
                    waiting = self._smaller_batches(rows, waiting, lengths)
                    continue
            else:
                embeddings[rows] = batch_embeddings
                for task, values in batch_logits.items():
                    best = torch.softmax(values, dim=-1).max(dim=-1)
                    classes[task][rows] = best.indices.numpy()
                    scores[task][rows] = best.values.numpy()
            done += len(rows)
            progress(done)
        labels = tuple(
            TaskLabels(task, classes[task.name], scores[task.name]) for task in self.config.tasks
        )
        return Labelled(labels, embeddings, truncated, int(lengths.sum()), tuple(too_large))

    def _forward(self, ids: list[list[int]]) -> tuple[NDArray[np.float32], dict[str, torch.Tensor]]:
        """One batch: embeddings, float32 [B, E], and logits by task, float32 [B, C], on the CPU."""
        input_ids, mask = self._tokenizer.pad(ids)
        with torch.inference_mode():
            embedding, logits = self._model.forward_all(
                input_ids.to(self.device), mask.to(self.device)
            )
            return embedding.cpu().numpy(), {task: v.cpu() for task, v in logits.items()}

    def _smaller_batches(
        self,
        rows: NDArray[np.int64],
        waiting: deque[NDArray[np.int64]],
        lengths: NDArray[np.int64],
    ) -> deque[NDArray[np.int64]]:
        """After running out of memory: half the budget, for these rows and all that follow."""
        padded = len(rows) * int(lengths[rows].max())
        self.batch_tokens = max(1, min(self.batch_tokens, padded) // 2)
        log.warning("out of memory: batches of %d tokens from now on", self.batch_tokens)
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        remaining = np.concatenate([rows, *waiting])
        return deque(
            remaining[batch] for batch in token_batches(lengths[remaining], self.batch_tokens)
        )


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error means that memory did not suffice, on a GPU or on the CPU.

    torch has a type for the GPU's only; its CPU allocator raises RuntimeError with a text, and
    oneDNN one of its own.
    """
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    text = str(error).lower()
    return any(sign in text for sign in ("can't allocate memory", "bad_alloc", "out of memory"))


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
