"""Measure how well embeddings compare texts: Spearman's correlation on STS-B."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mtl_core.data.stsb import Pairs
from mtl_core.model.encoder import SentenceEncoder, pool, project
from mtl_core.model.tokenizer import Tokenizer
from mtl_core.pulse import Pulse, no_pulse


@dataclass
class SimilarityProbe:
    """Measures Spearman's correlation of cosine and human score, once in each call."""

    encoder: SentenceEncoder
    tokenizer: Tokenizer
    pairs: Pairs | None
    precision: str = "auto"
    frozen: bool = False
    """Whether the backbone stays unchanged between calls; it then runs in the first one only."""
    pulse: Pulse = no_pulse
    _kept: NDArray[np.float32] | None = field(default=None, init=False)
    """Pooled vectors of a frozen backbone, float32 [2 N, H]."""

    def __call__(self) -> dict[str, Any] | None:
        """``spearman`` and ``pairs`` of STS-B's validation split; None without its data."""
        from scipy.stats import spearmanr

        if self.pairs is None:
            return None
        pooled = self._kept if self._kept is not None else self._pool()
        self._kept = pooled if self.frozen else None
        vectors, count = project(self.encoder, pooled), len(self.pairs.first)
        cosines = (vectors[:count] * vectors[count:]).sum(axis=1)
        correlation = spearmanr(cosines, self.pairs.scores).statistic
        return {"spearman": float(correlation), "pairs": count}

    @cached_property
    def _ids(self) -> list[list[int]]:
        """Token ids of all first sentences, then of all second ones."""
        assert self.pairs is not None
        return self.tokenizer([*self.pairs.first, *self.pairs.second])

    def _pool(self) -> NDArray[np.float32]:
        return pool(self.encoder, self.tokenizer, self._ids, self.precision, self.pulse)
