"""The model as one graph: token ids in, embedding and each task's probabilities out."""

import torch
from torch import Tensor, nn

from mtl_core.engine.base import EMBEDDING_OUTPUT
from mtl_core.model.network import MultiTaskModel


class LabelGraph(nn.Module):
    """A model as one graph: ids and mask to embedding and each task's probabilities."""

    def __init__(self, model: MultiTaskModel) -> None:
        super().__init__()
        self.model = model

    @property
    def output_names(self) -> list[str]:
        """Names of the outputs, in order."""
        return [EMBEDDING_OUTPUT, *(task.name for task in self.model.config.tasks)]

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, ...]:
        """Label a padded batch.

        Args:
            input_ids, attention_mask: int64 [B, T] each.
        Returns:
            the embedding, float32 [B, E], and of each task probabilities, float32 [B, C].
        """
        return self.answers(self.model.encoder(input_ids, attention_mask))

    def answers(self, embedding: Tensor) -> tuple[Tensor, ...]:
        """The embedding, float32 [B, E], and of each task probabilities, float32 [B, C]."""
        config = self.model.config

        def probabilities(task: str) -> Tensor:
            logits = self.model.head_logits(embedding, task)
            return torch.softmax(logits / config.calibration_of(task).temperature, -1)

        return embedding, *(probabilities(task.name) for task in config.tasks)
