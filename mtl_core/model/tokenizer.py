"""Texts to token ids with the backbone's own (Rust) tokenizer, and ids to padded batches."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import tokenizers
from numpy.typing import NDArray

from mtl_core.errors import BackboneError
from mtl_core.model.backbones import BackboneFiles
from mtl_core.token_ids import TokenIds

if TYPE_CHECKING:
    from torch import Tensor

PIECE = 4096
"""Texts tokenised at a time."""


class Tokenizer:
    """Turns texts into token ids without padding; truncates texts at ``max_tokens``."""

    def __init__(
        self,
        rust: tokenizers.Tokenizer,
        pad_token_id: int,
        max_tokens: int,
        mask_token_id: int | None = None,
        special_token_ids: Sequence[int] = (),
    ) -> None:
        self._rust = rust
        self._rust.no_padding()
        self.pad_token_id = pad_token_id
        self.max_tokens = max_tokens
        self.mask_token_id = mask_token_id
        """None where the backbone has none, or where it is not needed (labelling)."""
        self.special_token_ids = tuple(special_token_ids)

    @classmethod
    def from_file(cls, path: Path, pad_token_id: int, max_tokens: int) -> "Tokenizer":
        """Read a ``tokenizer.json``; needs neither torch nor transformers."""
        return cls(tokenizers.Tokenizer.from_file(str(path)), pad_token_id, max_tokens)

    def __call__(self, texts: Sequence[str], max_tokens: int | None = None) -> TokenIds:
        """Token ids of each text, special tokens included, at most ``max_tokens`` of them."""
        self._rust.enable_truncation(max_length=max_tokens or self.max_tokens)
        # In pieces: the tokenizer hands ids out as lists, which take nine times the memory.
        return TokenIds.joined(
            TokenIds.of([e.ids for e in self._rust.encode_batch_fast(list(texts[at : at + PIECE]))])
            for at in range(0, len(texts), PIECE)
        )

    def to_json(self) -> str:
        """The tokenizer as ``tokenizer.json`` holds it, truncating at ``max_tokens``."""
        self._rust.enable_truncation(max_length=self.max_tokens)
        return str(self._rust.to_str())

    def pad_arrays(self, batch: TokenIds) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Pad texts to the longest of them.

        Returns:
            input_ids and attention_mask, int64 [B, T] each.
        """
        return batch.padded(self.pad_token_id)

    def pad(self, batch: TokenIds) -> "tuple[Tensor, Tensor]":
        """Pad texts as :meth:`pad_arrays` does; ids and mask are tensors, int64 [B, T] each."""
        import torch

        ids, mask = self.pad_arrays(batch)
        return torch.from_numpy(ids), torch.from_numpy(mask)

    def mask_at_random(self, input_ids: "Tensor", share: float) -> "Tensor":
        """A copy of the ids, int64 [B, T], with a random share of them replaced by the mask token.

        Special tokens are never replaced. The random numbers come from torch's global generator.
        If the backbone has no mask token, the ids are returned unchanged.
        """
        import torch

        if not share or self.mask_token_id is None:
            return input_ids
        special = torch.isin(input_ids, torch.tensor(self.special_token_ids))
        drawn = torch.rand(input_ids.shape) < share
        return torch.where(drawn & ~special, self.mask_token_id, input_ids)


def load_tokenizer(files: BackboneFiles, max_tokens: int) -> Tokenizer:
    """Load a backbone's tokenizer.

    Raises:
        BackboneError: the folder holds no tokenizer, or only one that is not written in Rust.
    """
    from transformers import AutoTokenizer

    try:
        pretrained = AutoTokenizer.from_pretrained(
            files.folder, use_fast=True, trust_remote_code=False
        )
        return Tokenizer(
            pretrained.backend_tokenizer,
            int(pretrained.pad_token_id or 0),
            max_tokens,
            pretrained.mask_token_id,
            pretrained.all_special_ids,
        )
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise BackboneError(f"backbone '{files.name}' has no usable tokenizer: {error}") from error
