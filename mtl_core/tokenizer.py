"""Texts to token ids with the backbone's own (Rust) tokenizer, and ids to padded batches."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from mtl_core.backbones import BackboneFiles
from mtl_core.errors import BackboneError


class Tokenizer:
    """Texts to token ids without padding; longer texts are truncated at ``max_tokens``."""

    def __init__(self, pretrained: PreTrainedTokenizerBase, max_tokens: int) -> None:
        self._rust = pretrained.backend_tokenizer
        self._rust.no_padding()
        self.pad_token_id = int(pretrained.pad_token_id or 0)
        self.max_tokens = max_tokens

    def __call__(self, texts: Sequence[str], max_tokens: int | None = None) -> list[list[int]]:
        """Token ids of each text, special tokens included, at most ``max_tokens`` of them."""
        self._rust.enable_truncation(max_length=max_tokens or self.max_tokens)
        return [encoding.ids for encoding in self._rust.encode_batch_fast(list(texts))]

    def pad(self, rows: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
        """Pad rows of ids to the longest of them.

        Returns:
            input_ids and attention_mask, int64 [B, T] each.
        """
        lengths = np.fromiter((len(row) for row in rows), dtype=np.int64, count=len(rows))
        width = int(lengths.max(initial=1))
        mask = np.arange(width) < lengths[:, None]  # [B, T]
        ids = np.full((len(rows), width), self.pad_token_id, dtype=np.int64)
        ids[mask] = np.concatenate([np.asarray(row, dtype=np.int64) for row in rows])
        return torch.from_numpy(ids), torch.from_numpy(mask.astype(np.int64))


def load_tokenizer(files: BackboneFiles, max_tokens: int) -> Tokenizer:
    """Load a backbone's tokenizer.

    Raises:
        BackboneError: the folder holds no tokenizer, or only a slow one.
    """
    try:
        pretrained = AutoTokenizer.from_pretrained(
            files.folder, use_fast=True, trust_remote_code=False
        )
        return Tokenizer(pretrained, max_tokens)
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise BackboneError(f"backbone '{files.name}' has no usable tokenizer: {error}") from error
