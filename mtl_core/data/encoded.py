"""A split ready to train on: its token ids, and outputs of the backbone kept for the run."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mtl_core.data.splits import LabelledTexts
from mtl_core.model.tokenizer import Tokenizer
from mtl_core.pulse import ROWS, Pulse, no_pulse, pulsing
from mtl_core.token_ids import TokenIds

NO_LABEL = -1
"""Class of a row that has soft labels alone."""


@dataclass(frozen=True)
class Activations:
    """Token vectors of N texts as they enter one of the backbone's layers, mapped from a file."""

    layer: int
    values: NDArray[np.float16]
    """All texts' tokens one after the other, float16 [tokens, H]."""
    starts: NDArray[np.int64]
    """Where each text's tokens begin, int64 [N]."""
    lengths: NDArray[np.int64]
    """Tokens of each text, int64 [N]."""

    def padded(self, rows: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """A batch's token vectors, float32 [B, T, H], zero where padded; and mask, int64 [B, T]."""
        lengths = self.lengths[rows]
        width = int(lengths.max())
        padded = np.zeros((len(rows), width, self.values.shape[1]), dtype=np.float32)
        for target, row, length in zip(padded, rows, lengths, strict=True):
            target[:length] = self.values[self.starts[row] : self.starts[row] + length]
        mask = np.arange(width) < lengths[:, None]
        return torch.from_numpy(padded), torch.from_numpy(mask.astype(np.int64))


@dataclass(frozen=True)
class EncodedTexts:
    """A task's texts as token ids, ready to be cut into batches."""

    data: LabelledTexts
    ids: TokenIds
    lengths: NDArray[np.int64]
    """Tokens of each text, int64 [N]."""
    pooled: NDArray[np.float16] | None = None
    """Pooled vectors of the backbone as published, float16 [N, H], mapped from a file."""
    reference: NDArray[np.float16] | None = None
    """Vectors whose cosines the embedding is to keep, float16 [N, any]."""
    soft: NDArray[np.float16] | None = None
    """Probabilities by the run's teachers, float16 [N, C]."""
    activations: Activations | None = None
    """What enters the first trained layer; kept where the layers below it stay as published."""


def encode_texts(
    data: LabelledTexts, tokenizer: Tokenizer, max_tokens: int, pulse: Pulse = no_pulse
) -> EncodedTexts:
    """Tokenise all texts of a task once."""
    ids = TokenIds.joined(
        tokenizer(data.texts[start : start + ROWS], max_tokens)
        for start in pulsing(range(0, len(data), ROWS), pulse)
    )
    return EncodedTexts(data, ids, ids.lengths)
