"""The model: one shared sentence encoder, one linear head for each task.

Legend of shapes: B batch, T tokens, E embedding size (256), C classes of a task.

    input_ids, attention_mask [B, T]
        -> encoder (:mod:`mtl_core.model.encoder`)   [B, E]   the sentence embedding
        -> each task's Linear, times its scale      [B, C]   the logits
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mtl_core.config import DEFAULT_BACKBONE, ModelConfig
from mtl_core.errors import ModelError, UnknownTaskError
from mtl_core.files import file_sha256
from mtl_core.model.config import WEIGHTS, read_model_config
from mtl_core.model.encoder import SentenceEncoder, build_encoder
from mtl_core.model.folder import read_tensors, write_model
from mtl_core.model.registry import SHIPPED_MODELS, find_model
from mtl_core.model.tokenizer import Tokenizer
from mtl_core.model.typicality import Typicality, read_typicality

BACKBONE_PREFIX = "encoder.backbone."
"""Prefix of the names of the backbone's parameters."""


class MultiTaskModel(nn.Module):
    """One :class:`SentenceEncoder` shared by a linear head for each task."""

    def __init__(self, encoder: SentenceEncoder, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = encoder
        self.typicality: Mapping[str, Typicality] = {}
        """Each task's statistics of typicality; empty where the model's folder has none."""
        self.heads = nn.ModuleDict(
            {task.name: nn.Linear(config.embedding_size, len(task.labels)) for task in config.tasks}
        )
        # Each head has its own scale, so that freezing a head freezes all that makes its logits.
        self.logit_scales = nn.ParameterDict(
            {task.name: nn.Parameter(torch.tensor(config.logit_scale)) for task in config.tasks}
        )

    @classmethod
    def from_pretrained(cls, name: str | Path = "default") -> "MultiTaskModel":
        """Load a trained model by the path of its directory, or a shipped one by its name.

        Raises:
            ModelError: there is no such model, or it is damaged.
        """
        return load_model(find_model(str(name), SHIPPED_MODELS).folder).model

    @classmethod
    def from_backbone(cls, name: str = DEFAULT_BACKBONE, **config: Any) -> "MultiTaskModel":
        """Build a model with the backbone's published weights and fresh projection and heads.

        Args:
            config: further fields of :class:`ModelConfig`, such as ``tasks``.
        Raises:
            BackboneError: the backbone cannot be found.
        """
        return build_model(ModelConfig(name, **config))[0].eval()

    @property
    def tokenizer(self) -> Tokenizer:
        """The backbone's tokenizer."""
        return self.encoder.tokenizer

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embeddings of texts, float32 [N, E], as :meth:`SentenceEncoder.encode` gives them."""
        return self.encoder.encode(texts)

    def predict(self, texts: Sequence[str]) -> list[dict[str, Any]]:
        """Give for each text every task's label and its calibrated score (``<task>_score``).

        And ``<task>_typicality``, the share of held-out texts that are at least as unusual for the
        task, if the model's folder has the statistics (:mod:`mtl_core.model.typicality`).

        Raises:
            TypeError: as :meth:`SentenceEncoder.encode`.
        """
        vectors = self.encode(texts)
        embeddings = torch.from_numpy(vectors)
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
            if task.name in self.typicality:
                typical = self.typicality[task.name].typicality(vectors)
                for answer, value in zip(answers, typical, strict=True):
                    answer[f"{task.name}_typicality"] = round(float(value), 4)
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
        the model in float32 on the CPU, its ``config`` completed as by :func:`build_encoder`, and
        the tokenizer.
    Raises:
        BackboneError: the backbone cannot be found, or has other weights than ``config`` demands.
    """
    encoder, config = build_encoder(config)
    return MultiTaskModel(encoder, config), encoder.tokenizer


@dataclass(frozen=True)
class LoadedModel:
    """A model loaded from its directory: in evaluation mode, float32, on the CPU."""

    model: MultiTaskModel
    tokenizer: Tokenizer
    sha256: str
    """SHA-256 of ``model.safetensors``; names the model in manifests."""


def load_model(folder: Path) -> LoadedModel:
    """Rebuild a model from its directory and its backbone.

    Raises:
        ModelError: the directory is incomplete or damaged.
        BackboneError: the backbone is missing or has other weights than the model was trained on.
    """
    config = read_model_config(folder)
    weights = folder / WEIGHTS
    if not weights.is_file():
        raise ModelError(f"{folder} is no model directory: it holds no {WEIGHTS}")
    model, tokenizer = build_model(config)
    tensors = read_tensors(weights)
    parameters = dict(model.named_parameters())
    missing = [n for n in parameters if n not in tensors and not n.startswith(BACKBONE_PREFIX)]
    unknown = [n for n in tensors if n not in parameters]
    if missing or unknown:
        raise ModelError(
            f"{weights} does not fit its config.json: missing {missing}, unknown {unknown}"
        )
    with torch.no_grad():
        for name, value in tensors.items():
            parameters[name].copy_(value)
    sha256 = file_sha256(weights)
    model.typicality = read_typicality(folder, sha256)
    return LoadedModel(model.eval(), tokenizer, sha256)


def save_model(
    model: MultiTaskModel, trained: Iterable[str], folder: Path, training: Mapping[str, Any]
) -> None:
    """Write a model directory; of the backbone only the trained parameters, in half precision.

    Args:
        trained: names of the parameters that the run changed.
        training: settings of the run, kept in ``config.json`` as they are.
    """
    changed = set(trained)
    tensors: dict[str, Tensor] = {}
    for name, parameter in model.named_parameters():
        value = parameter.detach().cpu().contiguous()
        if not name.startswith(BACKBONE_PREFIX):
            tensors[name] = value.clone()
        elif name in changed:
            tensors[name] = value.to(torch.float16)
    write_model(folder, model.config, tensors, training)
