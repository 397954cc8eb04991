"""PyTorch on the first GPU, or on the CPU with bfloat16 where the chip has it."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mtl_core.engine.base import Engine, Forward, Pending
from mtl_core.engine.choose import choose_precision
from mtl_core.engine.graph import LabelGraph
from mtl_core.engine.on_gpu import Run, Way, sample_of, take_fastest, ways
from mtl_core.model.network import LoadedModel
from mtl_core.model.precision import HALF, best_device, on_device, to_host
from mtl_core.token_ids import TokenIds

# Padded tokens in one batch on a CPU: 2,048 to 4,096 were measured fastest, because of its caches.
CPU_BATCH_TOKENS = 4096


class TorchEngine(Engine):
    """Labels texts with the torch model itself."""

    name = "torch"

    def __init__(
        self, loaded: LoadedModel, precision: str = "auto", batch_tokens: int = CPU_BATCH_TOKENS
    ) -> None:
        """Args:
        batch_tokens: padded tokens in one batch; on a GPU the fastest way to run batches decides.
        """
        self.device = best_device()
        precision = choose_precision("torch", precision)
        super().__init__(
            loaded.model.config, loaded.tokenizer, loaded.sha256, precision, batch_tokens
        )
        self._graph = LabelGraph(loaded.model).to(self.device).eval()
        backbone: Any = self._graph.model.encoder.backbone
        if precision in HALF:
            # Only the backbone: pooling, projection and heads stay in float32.
            backbone.to(HALF[precision])
        self._attention = backbone.config._attn_implementation
        self._run: Run = self._padded
        if self.device.type == "cuda":
            offered = list(ways(self._graph, precision, self._padded, self.device))
            sample = sample_of(backbone.config.vocab_size, loaded.tokenizer.max_tokens)
            take_fastest(self, self.take, offered, sample)
            self.release_memory()  # of the ways that were not taken

    def take(self, way: Way) -> None:
        """Run batches in another way from now on."""
        backbone: Any = self._graph.model.encoder.backbone
        backbone.set_attn_implementation(self._attention)
        self._run = self._padded  # gives the last way's memory back before the next one needs it
        with torch.inference_mode():
            self._run = way.make()
        self.set_batches(way.batch_tokens, way.in_flight)
        self.identity = f"{self.name} {self.precision} {way.name}"

    def start(self, batch: TokenIds) -> Pending:
        with torch.inference_mode():
            reads = [to_host(values) for values in self._run(batch)]
        return lambda: self._named([read() for read in reads])

    def _padded(self, batch: TokenIds) -> Sequence[Tensor]:
        found: Sequence[Tensor] = self._graph(
            *(on_device(each, self.device) for each in self.tokenizer.pad(batch))
        )
        return found

    def _named(self, found: Sequence[NDArray[np.float32]]) -> Forward:
        embedding, *probabilities = found
        names = [task.name for task in self.config.tasks]
        return embedding, dict(zip(names, probabilities, strict=True))

    def release_memory(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
