"""PyTorch on the first GPU, or on the CPU with bfloat16 where the chip has it."""

import torch

from mtl_core.checkpoint import LoadedModel
from mtl_core.engine import Engine, Forward
from mtl_core.engines import choose_precision
from mtl_core.graph import LabelGraph
from mtl_core.precision import best_device

# Padded tokens in one batch. On a CPU, 2,048 to 4,096 were measured fastest
# (caches); a GPU wants enough rows to fill it.
CPU_BATCH_TOKENS = 4096
CUDA_BATCH_TOKENS = 65536


class TorchEngine(Engine):
    """Runs the model itself."""

    name = "torch"

    def __init__(
        self, loaded: LoadedModel, precision: str = "auto", batch_tokens: int | None = None
    ) -> None:
        self.device = best_device()
        precision = choose_precision("torch", precision)
        on_gpu = self.device.type == "cuda"
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

    def forward(self, ids: list[list[int]]) -> Forward:
        input_ids, mask = self.tokenizer.pad(ids)
        with torch.inference_mode():
            embedding, *probabilities = self._graph(input_ids.to(self.device), mask.to(self.device))
            names = [task.name for task in self.config.tasks]
            return embedding.cpu().numpy(), {
                name: values.cpu().numpy()
                for name, values in zip(names, probabilities, strict=True)
            }

    def release_memory(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
