"""Texts one after the other, without padding: attention sees each text's own tokens alone.

Legend of shapes: P tokens of all texts, S texts, H backbone width, E embedding size, C classes of a
task. A batch may be filled up to a set number of tokens and of texts, so that all batches have the
same shape, as a recorded run of a GPU's kernels (a CUDA graph) needs them.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AttentionInterface

from mtl_core.engine.graph import LabelGraph
from mtl_core.model.precision import HALF
from mtl_core.token_ids import TokenIds, starts_of

ATTENTION = "mtl_packed"
"""This attention's name among those of transformers, which makes no mask for it."""

PACKABLE = ("bert",)
"""Architectures in which each text's positions begin at 0, and all of a text sees all of it."""


@dataclass(frozen=True)
class Packed:
    """A batch of S texts, one after the other; what fills it up belongs to no text."""

    ids: Tensor
    """int64 [1, P]."""
    positions: Tensor
    """Each token's place in its text, int64 [1, P]."""
    bounds: Tensor
    """Where each text begins, and where the last one ends, int32 [S + 1]."""
    lengths: Tensor
    """Tokens of each text, then of the filling, int64 [S + 1]."""

    @property
    def tensors(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """All of it, as :class:`PackedGraph` takes it."""
        return self.ids, self.positions, self.bounds, self.lengths


def pack(batch: TokenIds, tokens: int | None = None, texts: int | None = None) -> Packed:
    """Put texts one after the other.

    Args:
        tokens, texts: fill up to so many; a text that fills has no token.
    """
    own = len(batch.values)
    tokens, texts = tokens or own, texts or len(batch)
    ids, positions = np.zeros(tokens, np.int64), np.zeros(tokens, np.int64)
    ids[:own] = batch.values
    positions[:own] = np.arange(own) - np.repeat(starts_of(batch.lengths), batch.lengths)
    lengths = np.zeros(texts + 1, np.int64)
    lengths[: len(batch)], lengths[-1] = batch.lengths, tokens - own
    bounds = np.zeros(texts + 1, np.int32)
    bounds[1:] = np.cumsum(lengths[:-1])
    return Packed(
        torch.from_numpy(ids)[None],
        torch.from_numpy(positions)[None],
        torch.from_numpy(bounds),
        torch.from_numpy(lengths),
    )


class PackedGraph(nn.Module):
    """The answers of :class:`LabelGraph` for packed texts."""

    def __init__(self, graph: LabelGraph, longest: int) -> None:
        """Args:
        longest: tokens of the longest text that may come.
        """
        super().__init__()
        self.graph, self.longest = graph, longest

    def forward(
        self, ids: Tensor, positions: Tensor, bounds: Tensor, lengths: Tensor
    ) -> tuple[Tensor, ...]:
        """Label packed texts.

        Args:
            ids, positions, bounds, lengths: as :class:`Packed` has them.
        Returns:
            the embedding, float32 [S, E], and of each task probabilities, float32 [S, C]; those of
            texts without a token mean nothing.
        """
        encoder = self.graph.model.encoder
        states: Tensor = encoder.backbone(
            input_ids=ids,
            position_ids=positions,
            attention_mask=None,
            cu_seq_lens_q=bounds,
            max_length_q=self.longest,
        ).last_hidden_state[0]  # [P, H]
        if encoder.pooling == "cls":
            pooled = states[bounds[:-1].long().clamp(max=len(states) - 1)].float()
        else:
            # Each text's sum in the order of its tokens: the same in every run, as a sum by
            # atomic additions would not be. "unsafe" leaves out a check that waits for the GPU.
            sums = torch.segment_reduce(states.float(), "sum", lengths=lengths, unsafe=True)
            pooled = (sums / lengths.clamp(min=1)[:, None])[:-1]
        return self.graph.answers(encoder.project(pooled))


def can_pack(backbone: Any, precision: str) -> bool:
    """Whether a backbone on a GPU may be given packed texts: the kernel is for half precision."""
    return backbone.config.model_type in PACKABLE and precision in HALF


def _attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    cu_seq_lens_q: Tensor,
    max_length_q: int,
    scaling: float,
    **_: Any,
) -> tuple[Tensor, None]:
    """Attention within each text, float [1, heads, P, D] each, to [1, P, heads, D]."""
    q, k, v = (each[0].transpose(0, 1) for each in (query, key, value))
    if not query.is_cpu:
        from torch.nn.attention.varlen import varlen_attn

        bounds, longest = cu_seq_lens_q, max_length_q
        found = varlen_attn(q, k, v, bounds, bounds, longest, longest, scale=scaling)
        assert isinstance(found, Tensor)
        return found[None], None
    return _text_by_text(q, k, v, cu_seq_lens_q.tolist(), scaling)[None], None


def _text_by_text(
    query: Tensor, key: Tensor, value: Tensor, bounds: list[int], scaling: float
) -> Tensor:
    """The same without a kernel for it: what the GPU's answers are to be. [P, heads, D] each."""
    found = torch.zeros_like(query)
    for start, end in pairwise(bounds):
        if start < end:
            q, k, v = (each[start:end].transpose(0, 1) for each in (query, key, value))
            attended = F.scaled_dot_product_attention(q, k, v, scale=scaling)
            found[start:end] = attended.transpose(0, 1)
    return found


AttentionInterface.register(ATTENTION, _attend)
