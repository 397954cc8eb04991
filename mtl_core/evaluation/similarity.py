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
from mtl_core.token_ids import TokenIds


def correlation(vectors: NDArray[np.float32], pairs: Pairs) -> dict[str, Any]:
    """Spearman's correlation of the pairs' cosines with people's scores.

    Args:
        vectors: unit vectors of ``pairs.texts``, float32 [2 N, E].
    Returns:
        ``spearman``, and ``pairs``, their number.
    """
    from scipy.stats import spearmanr

    count = len(pairs.first)
    cosines = (vectors[:count] * vectors[count:]).sum(axis=1)
    return {"spearman": float(spearmanr(cosines, pairs.scores).statistic), "pairs": count}


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
        if self.pairs is None:
            return None
        pooled = self._kept if self._kept is not None else self._pool()
        self._kept = pooled if self.frozen else None
        return correlation(project(self.encoder, pooled), self.pairs)

    @cached_property
    def _ids(self) -> TokenIds:
        """Token ids of the pairs' texts."""
        assert self.pairs is not None
        return self.tokenizer(self.pairs.texts)

    def _pool(self) -> NDArray[np.float32]:
        return pool(self.encoder, self.tokenizer, self._ids, self.precision, self.pulse)
