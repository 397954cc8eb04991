"""The model: one shared sentence encoder, one linear head a task.

Legend of shapes: B batch, T tokens, H backbone width (384 for MiniLM), E embedding size (256),
C classes of a task.

    input_ids, attention_mask [B, T]
        -> backbone                       [B, T, H]
        -> mean over the real tokens      [B, H]
        -> Linear, tanh, L2 norm          [B, E]   the sentence embedding
        -> one Linear a task, times scale [B, C]   the logits
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from mtl_core.backbones import (
    Pooling,
    load_backbone,
    max_positions,
    pooling_mode,
    resolve_backbone,
)
from mtl_core.config import DEFAULT_BACKBONE, EMBEDDING_SIZE, ModelConfig
from mtl_core.errors import UnknownTaskError
from mtl_core.tokenizer import Tokenizer, load_tokenizer


def masked_mean(hidden: Tensor, attention_mask: Tensor) -> Tensor:
    """Average the token vectors of each row, padding left out.

    Args:
        hidden: token vectors, float [B, T, H].
        attention_mask: 1 token, 0 padding, int64 [B, T].
    Returns:
        pooled vectors, float32 [B, H]; zero where a row has no token at all.
    """
    mask = attention_mask.unsqueeze(-1).to(torch.float32)  # [B, T, 1]
    summed = (hidden.to(torch.float32) * mask).sum(dim=1)  # [B, H]
    return summed / mask.sum(dim=1).clamp(min=1e-9)


def demand_texts(texts: Sequence[str]) -> None:
    """Raise TypeError unless these are texts: of one text alone, each letter would be taken."""
    if isinstance(texts, str | bytes):
        raise TypeError(f"give a list of texts, as in [{texts[:40]!r}]")
    for row, text in enumerate(texts):
        if not isinstance(text, str):
            raise TypeError(f"text {row} is {text!r:.60}, not a string")


class SentenceEncoder(nn.Module):
    """Backbone, masked mean pooling, projection, tanh, L2 norm: a text to a unit vector."""

    def __init__(
        self,
        backbone: nn.Module,
        hidden_size: int,
        embedding_size: int,
        tokenizer: Tokenizer,
        pooling: Pooling = "mean",
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.pooling = pooling
        self.projection = nn.Linear(hidden_size, embedding_size)
        self.tokenizer = tokenizer

    @classmethod
    def from_backbone(
        cls, name: str = DEFAULT_BACKBONE, embedding_size: int = EMBEDDING_SIZE
    ) -> "SentenceEncoder":
        """A backbone with its published weights and a fresh projection (torch's global seed).

        Raises:
            BackboneError: the backbone cannot be found.
        """
        model, _ = build_model(ModelConfig(name, embedding_size=embedding_size, tasks=()))
        return model.encoder.eval()

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embeddings of texts, float32 [N, E], unit length, in the order given.

        Raises:
            TypeError: one text instead of a list, or something that is no text.
        """
        from mtl_core.predict import embed  # builds on this module

        demand_texts(texts)
        return embed(self, self.tokenizer, self.tokenizer(texts))

    def pool(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Run the backbone and average its token vectors, or take the first where it is made so.

        Args:
            input_ids: token ids, int64 [B, T].
            attention_mask: 1 token, 0 padding, int64 [B, T].
        Returns:
            pooled vectors, float32 [B, H].
        """
        output = self.backbone(input_ids=input_ids, attention_mask=attention_mask)
        return self.pool_states(output.last_hidden_state, attention_mask)

    def pool_states(self, states: Tensor, attention_mask: Tensor) -> Tensor:
        """:meth:`pool` from the backbone's last token vectors, float [B, T, H]."""
        if self.pooling == "cls":
            return states[:, 0].float()
        return masked_mean(states, attention_mask)

    def project(self, pooled: Tensor) -> Tensor:
        """Turn pooled vectors into embeddings, always in float32.

        Args:
            pooled: float32 [B, H].
        Returns:
            embeddings of length 1, float32 [B, E].
        """
        # The last two products decide labels and similarities and cost nothing: full precision.
        with torch.autocast(device_type=pooled.device.type, enabled=False):
            return F.normalize(torch.tanh(self.projection(pooled.float())), dim=-1)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Embed a padded batch.

        Args:
            input_ids: token ids, int64 [B, T].
            attention_mask: 1 token, 0 padding, int64 [B, T].
        Returns:
            embeddings of length 1, float32 [B, E].
        """
        return self.project(self.pool(input_ids, attention_mask))


class MultiTaskModel(nn.Module):
    """One :class:`SentenceEncoder` shared by a linear head for each task."""

    def __init__(self, encoder: SentenceEncoder, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = encoder
        self.heads = nn.ModuleDict(
            {task.name: nn.Linear(config.embedding_size, len(task.labels)) for task in config.tasks}
        )
        # One scale a head, so that freezing a head freezes all that makes its logits.
        self.logit_scales = nn.ParameterDict(
            {task.name: nn.Parameter(torch.tensor(config.logit_scale)) for task in config.tasks}
        )

    @classmethod
    def from_pretrained(cls, name: str | Path = "default") -> "MultiTaskModel":
        """A trained model by the path of its directory, or a shipped one by name.

        Raises:
            ModelError: there is none, or it is damaged.
        """
        from mtl_core.checkpoint import load_model  # builds on this module
        from mtl_core.registry import SHIPPED_MODELS, find_model

        return load_model(find_model(str(name), SHIPPED_MODELS).folder).model

    @classmethod
    def from_backbone(cls, name: str = DEFAULT_BACKBONE, **config: Any) -> "MultiTaskModel":
        """A backbone with its published weights, fresh projection and heads.

        Args:
            config: further fields of :class:`ModelConfig`, as ``tasks``.
        Raises:
            BackboneError: the backbone cannot be found.
        """
        return build_model(ModelConfig(name, **config))[0].eval()

    @property
    def tokenizer(self) -> Tokenizer:
        """The backbone's tokenizer."""
        return self.encoder.tokenizer

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """:meth:`SentenceEncoder.encode`."""
        return self.encoder.encode(texts)

    def predict(self, texts: Sequence[str]) -> list[dict[str, Any]]:
        """For each text, of each task the label and its calibrated score (``<task>_score``).

        Raises:
            TypeError: as :meth:`SentenceEncoder.encode`.
        """
        embeddings = torch.from_numpy(self.encode(texts))
        answers: list[dict[str, Any]] = [{} for _ in texts]
        for task in self.config.tasks:
            with torch.inference_mode():
                logits = self.head_logits(
                    embeddings.to(self.logit_scales[task.name].device), task.name
                )
            best = torch.softmax(
                logits / self.config.calibration_of(task.name).temperature, -1
            ).max(-1)
            for answer, index, score in zip(answers, best.indices, best.values, strict=True):
                answer[task.name] = task.labels[int(index)]
                answer[f"{task.name}_score"] = round(float(score), 4)
        return answers

    def head_logits(self, embedding: Tensor, task: str) -> Tensor:
        """Score embeddings with one task's head.

        Args:
            embedding: float32 [B, E].
            task: a key of ``heads``.
        Returns:
            logits, float32 [B, C].
        Raises:
            UnknownTaskError: no head of that name.
        """
        if task not in self.heads:
            raise UnknownTaskError(f"no head for task '{task}'; there are: {', '.join(self.heads)}")
        with torch.autocast(device_type=embedding.device.type, enabled=False):
            logits: Tensor = self.heads[task](embedding) * self.logit_scales[task]
        return logits

    def forward(self, input_ids: Tensor, attention_mask: Tensor, task: str) -> Tensor:
        """Encode a padded batch once and score it with one task's head.

        Args:
            input_ids: token ids, int64 [B, T].
            attention_mask: 1 token, 0 padding, int64 [B, T].
            task: a key of ``heads``.
        Returns:
            logits, float32 [B, C].
        Raises:
            UnknownTaskError: no head of that name.
        """
        return self.head_logits(self.encoder(input_ids, attention_mask), task)

    def forward_all(
        self, input_ids: Tensor, attention_mask: Tensor
    ) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Encode a padded batch once and score it with every head.

        Args:
            input_ids: token ids, int64 [B, T].
            attention_mask: 1 token, 0 padding, int64 [B, T].
        Returns:
            embeddings, float32 [B, E], and logits by task, float32 [B, C] each.
        """
        embedding = self.encoder(input_ids, attention_mask)
        return embedding, {task: self.head_logits(embedding, task) for task in self.heads}


def build_model(config: ModelConfig) -> tuple[MultiTaskModel, Tokenizer]:
    """Build a model with the backbone's published weights and fresh projection and heads.

    Fresh weights follow torch's global seed.

    Returns:
        the model in float32 on the CPU, its ``config`` completed with the backbone's sha256 and a
        ``max_tokens`` the backbone can take, and the tokenizer.
    Raises:
        BackboneError: the backbone cannot be found, or has other weights than ``config`` demands.
    """
    files = resolve_backbone(config.backbone)
    backbone, sha256 = load_backbone(files, config.backbone_sha256)
    limit = max_positions(files.folder)
    max_tokens = config.max_tokens if limit is None else min(config.max_tokens, limit)
    config = replace(config, backbone_sha256=sha256, max_tokens=max_tokens)
    tokenizer = load_tokenizer(files, max_tokens)
    encoder = SentenceEncoder(
        backbone,
        backbone.config.hidden_size,
        config.embedding_size,
        tokenizer,
        pooling_mode(files.folder),
    )
    return MultiTaskModel(encoder, config), tokenizer
