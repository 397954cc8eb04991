"""PyTorch on the first GPU, or on the CPU with bfloat16 where the chip has it."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mtl_core.engine.base import Engine, Forward, Pending
from mtl_core.engine.choose import choose_precision
from mtl_core.engine.graph import LabelGraph
from mtl_core.model.network import LoadedModel
from mtl_core.model.precision import best_device
from mtl_core.token_ids import TokenIds

# Padded tokens in one batch. On a CPU 2,048 to 4,096 were measured fastest, because of its caches;
# a GPU needs enough rows to fill it.
CPU_BATCH_TOKENS = 4096
CUDA_BATCH_TOKENS = 65536


class TorchEngine(Engine):
    """Labels texts with the torch model itself."""

    name = "torch"

    def __init__(
        self, loaded: LoadedModel, precision: str = "auto", batch_tokens: int | None = None
    ) -> None:
        self.device = best_device()
        precision = choose_precision("torch", precision)
        on_gpu = self.device.type == "cuda"
        if on_gpu:
            self.in_flight = 2
        super().__init__(
            loaded.model.config,
            loaded.tokenizer,
            loaded.sha256,
            precision,
            batch_tokens or (CUDA_BATCH_TOKENS if on_gpu else CPU_BATCH_TOKENS),
        )
        self._graph = LabelGraph(loaded.model).to(self.device).eval()
        if precision == "bfloat16":
            # Only the backbone: pooling, projection and heads stay in float32.
            self._graph.model.encoder.backbone.to(torch.bfloat16)

    def start(self, batch: TokenIds) -> Pending:
        input_ids, mask = self.tokenizer.pad(batch)
        if self.device.type == "cuda":
            return self._start_on_gpu(input_ids, mask)
        with torch.inference_mode():
            found = [values.numpy() for values in self._graph(input_ids, mask)]
        return lambda: self._named(found)

    def _start_on_gpu(self, input_ids: Tensor, mask: Tensor) -> Pending:
        """Queue copies and kernels; pinned memory lets the copies run beside another batch."""
        with torch.inference_mode():
            found = self._graph(
                *(t.pin_memory().to(self.device, non_blocking=True) for t in (input_ids, mask))
            )
            on_host = [
                torch.empty(v.shape, dtype=v.dtype, pin_memory=True).copy_(v, non_blocking=True)
                for v in found
            ]
        copied = torch.cuda.Event()
        copied.record()

        def finish() -> Forward:
            copied.synchronize()
            return self._named([values.numpy() for values in on_host])

        return finish

    def _named(self, found: Sequence[NDArray[np.float32]]) -> Forward:
        embedding, *probabilities = found
        names = [task.name for task in self.config.tasks]
        return embedding, dict(zip(names, probabilities, strict=True))

    def release_memory(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
