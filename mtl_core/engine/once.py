"""Label the texts of a shard: each different text once, and none whose answer is cached."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from mtl_core.engine.base import Engine, Labelled
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


def label_once(
    engine: Engine,
    texts: Sequence[str],
    progress: Callable[[int], None],
    cache: LabelCache | None = None,
) -> Once:
    """Label texts in the order given, equal ones once.

    Args:
        texts: N texts.
        progress: as in :meth:`Engine.label`; counts only texts that are encoded.
        cache: where answers are looked up and kept.
    """
    numbers: dict[str, int] = {}
    places = np.array([numbers.setdefault(text, len(numbers)) for text in texts], dtype=np.int64)
    unique = list(numbers)
    found = cache.find(unique) if cache is not None else {}
    rest = [row for row in range(len(unique)) if row not in found]
    new = engine.label([unique[row] for row in rest], progress)
    if cache is not None and rest:
        cache.add([unique[row] for row in rest], new)
    whole = cache.joined(found, rest, new) if cache is not None and found else new
    return Once(whole.take(places), len(texts) - len(unique), len(found), int(new.lengths.sum()))
