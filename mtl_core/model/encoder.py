"""The sentence encoder: backbone, masked mean pooling, projection, tanh, L2 norm.

Legend of shapes: N texts, B batch, T tokens, H backbone width (384 for MiniLM), E embedding size
(256).

    input_ids, attention_mask [B, T]
        -> backbone                       [B, T, H]
        -> mean over the real tokens      [B, H]
        -> Linear, tanh, L2 norm          [B, E]   the sentence embedding
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from mtl_core.config import DEFAULT_BACKBONE, EMBEDDING_SIZE, ModelConfig
from mtl_core.model.backbones import (
    Pooling,
    load_backbone,
    max_positions,
    pooling_mode,
    resolve_backbone,
)
from mtl_core.model.batches import token_batches
from mtl_core.model.layers import keep_layers
from mtl_core.model.precision import Read, autocast, on_device, one_behind, to_host
from mtl_core.model.tokenizer import Tokenizer, load_tokenizer
from mtl_core.pulse import Pulse, no_pulse, pulsing
from mtl_core.token_ids import TokenIds

ATTENDS_TO_ALL = ("bert", "camembert", "distilbert", "electra", "roberta", "xlm-roberta")
"""Architectures in which each token attends to all of its text's, by torch's own attention."""

BATCH_TOKENS = {"cpu": 4096, "cuda": 32768}
"""Padded tokens in one batch, by the kind of device; see mtl_core.engine.torch_engine."""


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


def mask_for(backbone: Any, attention_mask: Tensor) -> Tensor:
    """The mask, [B, T], as a backbone is best given it.

    On a CPU as it is: where no text is padded, attention without a mask is faster.
    """
    return attention_mask if attention_mask.is_cpu else finished_mask(backbone, attention_mask)


def finished_mask(backbone: Any, attention_mask: Tensor) -> Tensor:
    """A mask that the backbone takes as it is, where there is one.

    Of another mask transformers asks whether all of it is 1, to leave it out. On a GPU each such
    question waits for all that was queued before.

    Args:
        attention_mask: 1 token, 0 padding, int64 [B, T].
    Returns:
        bool [B, 1, 1, T], or the mask as given for a backbone that makes other masks of it.
    """
    config = backbone.config
    if config.model_type not in ATTENDS_TO_ALL or config._attn_implementation != "sdpa":
        return attention_mask
    return attention_mask[:, None, None, :].bool()


def demand_texts(texts: Sequence[str]) -> None:
    """Raise TypeError unless ``texts`` is a sequence of strings.

    A single string is refused, too: each of its letters would be taken for a text.
    """
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
        """Build an encoder with the backbone's published weights and a fresh projection.

        The projection follows torch's global seed.

        Raises:
            BackboneError: the backbone cannot be found.
        """
        return build_encoder(ModelConfig(name, embedding_size=embedding_size, tasks=()))[0].eval()

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embeddings of texts, float32 [N, E], unit length, in the order given.

        Raises:
            TypeError: ``texts`` is a single text, or one of them is no string.
        """
        demand_texts(texts)
        return embed(self, self.tokenizer, self.tokenizer(texts))

    def pool(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Run the backbone and pool its token vectors: their mean, or for ``cls`` the first one.

        Args:
            input_ids: token ids, int64 [B, T].
            attention_mask: 1 token, 0 padding, int64 [B, T].
        Returns:
            pooled vectors, float32 [B, H].
        """
        given = mask_for(self.backbone, attention_mask)
        output = self.backbone(input_ids=input_ids, attention_mask=given)
        return self.pool_states(output.last_hidden_state, attention_mask)

    def pool_states(self, states: Tensor, attention_mask: Tensor) -> Tensor:
        """Pool the backbone's last token vectors, float [B, T, H], into float32 [B, H]."""
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
        # In full precision: projection and heads decide labels and similarities and cost nothing.
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


def embed(
    encoder: SentenceEncoder,
    tokenizer: Tokenizer,
    ids: TokenIds,
    precision: str = "auto",
    pulse: Pulse = no_pulse,
) -> NDArray[np.float32]:
    """Embeddings of rows of token ids, float32 [N, E], in the order given."""
    return project(encoder, pool(encoder, tokenizer, ids, precision, pulse))


def pool(
    encoder: SentenceEncoder,
    tokenizer: Tokenizer,
    ids: TokenIds,
    precision: str = "auto",
    pulse: Pulse = no_pulse,
) -> NDArray[np.float32]:
    """Pooled vectors of rows of token ids, float32 [N, H], in the order given."""
    encoder.eval()
    device = encoder.projection.weight.device
    vectors = np.empty((len(ids), encoder.projection.in_features), dtype=np.float32)

    def computed() -> Iterator[tuple[NDArray[np.int64], Read]]:
        for rows in pulsing(token_batches(ids.lengths, BATCH_TOKENS[device.type]), pulse):
            padded = (on_device(each, device) for each in tokenizer.pad(ids.take(rows)))
            yield rows, to_host(encoder.pool(*padded))

    with torch.inference_mode(), autocast(encoder, precision):
        for rows, read in one_behind(computed()):
            vectors[rows] = read()
    return vectors


def project(encoder: SentenceEncoder, pooled: NDArray[np.float32]) -> NDArray[np.float32]:
    """Embeddings, float32 [N, E], of pooled vectors, float32 [N, H]."""
    device = encoder.projection.weight.device
    with torch.inference_mode():
        vectors: NDArray[np.float32] = (
            encoder.project(torch.from_numpy(pooled).to(device)).cpu().numpy()
        )
    return vectors


def build_encoder(config: ModelConfig) -> tuple[SentenceEncoder, ModelConfig]:
    """Build an encoder with the backbone's published weights and a fresh projection.

    The projection follows torch's global seed.

    Returns:
        the encoder in float32 on the CPU, and the configuration completed with the backbone's
        sha256 and a ``max_tokens`` that the backbone can take.
    Raises:
        BackboneError: the backbone cannot be found, or has other weights than ``config`` demands.
    """
    files = resolve_backbone(config.backbone)
    backbone, sha256 = load_backbone(files, config.backbone_sha256)
    if config.layers_kept:
        keep_layers(backbone, config.layers_kept)
    limit = max_positions(files.folder)
    max_tokens = config.max_tokens if limit is None else min(config.max_tokens, limit)
    encoder = SentenceEncoder(
        backbone,
        backbone.config.hidden_size,
        config.embedding_size,
        load_tokenizer(files, max_tokens),
        pooling_mode(files.folder),
    )
    return encoder, replace(config, backbone_sha256=sha256, max_tokens=max_tokens)
