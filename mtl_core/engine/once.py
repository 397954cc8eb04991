"""Label the texts of a shard: each different text once, and none whose answer is cached.

In three steps, since other threads may take the first and the last: prepare, label, join.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mtl_core.engine.base import Encoded, Engine, Labelled
from mtl_core.engine.cache import LabelCache


@dataclass(frozen=True)
class Once:
    """The answer for N texts, and what it cost."""

    labelled: Labelled
    duplicates: int
    """How many texts repeat an earlier text of the shard."""
    cached: int
    """How many different texts had their answer in the cache."""
    tokens: int
    """Tokens encoded, special tokens included, padding not."""


@dataclass(frozen=True)
class Prepared:
    """N texts ready to be labelled."""

    encoded: Encoded
    """The different texts that have no answer yet, M of them."""
    texts: tuple[str, ...]
    """The same as text; empty without a cache."""
    places: NDArray[np.int64]
    """Of each of the N texts, its place among the different ones, int64 [N]."""
    found: Mapping[int, np.void]
    """Cached answers, by place."""
    different: int
    """How many different texts there are."""
    cache: LabelCache | None

    def join(self, new: Labelled) -> Once:
        """The answers for all texts in their order, from those for ``encoded``; keeps the new."""
        whole = new
        if self.cache is not None:
            if self.texts:
                self.cache.add(self.texts, new)
            if self.found:
                rest = [row for row in range(self.different) if row not in self.found]
                whole = self.cache.joined(self.found, rest, new)
        repeated = len(self.places) - self.different
        tokens = int(new.lengths.sum())
        return Once(whole.take(self.places), repeated, len(self.found), tokens)


def prepare(engine: Engine, texts: Sequence[str], cache: LabelCache | None = None) -> Prepared:
    """Tokenise the different texts of N that have no answer in the cache."""
    numbers: dict[str, int] = {}
    places = np.array([numbers.setdefault(text, len(numbers)) for text in texts], dtype=np.int64)
    found = cache.find(list(numbers)) if cache is not None else {}
    rest = [text for row, text in enumerate(numbers) if row not in found] if found else [*numbers]
    kept = tuple(rest) if cache is not None else ()
    return Prepared(engine.encode(rest), kept, places, found, len(numbers), cache)
