"""Texts that begin or end alike, such as a copy without its title.

Such a copy may say less than its original, so that their embeddings lie apart: of AG News' texts a
fifth alone has cosine 0.95 with its copy without title. The same words at one end and a lesser
cosine tell a copy as surely.
"""

import hashlib
import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

WORDS = 12
"""So many words at an end must be the same, case and punctuation aside."""
COSINE = 0.7
"""Least cosine of rows that begin or end alike: many texts share a signature and nothing else."""
ALL_PAIRS = 32
"""Of more rows with one end only those that follow each other are compared."""
WORD = re.compile(r"\w+")
NONE = 0
"""Key of a text with fewer words."""


def end_keys(texts: Sequence[str | None]) -> NDArray[np.uint64]:
    """Keys of the first and of the last words of texts, uint64 [N, 2]; equal for equal words."""
    found = np.full((len(texts), 2), NONE, np.uint64)
    for row, text in enumerate(texts):
        words = WORD.findall((text or "").lower())
        if len(words) >= WORDS:
            found[row] = _key(words[:WORDS], b"begin"), _key(words[-WORDS:], b"end")
    return found


def _key(words: Sequence[str], which: bytes) -> int:
    digest = hashlib.blake2b(" ".join(words).encode("utf-8", "replace"), digest_size=8, key=which)
    return int.from_bytes(digest.digest(), "little") or 1


def alike_at_an_end(
    keys: NDArray[np.uint64], units: NDArray[np.float16], least: float = COSINE
) -> NDArray[np.int64]:
    """Pairs of rows that begin or end alike and have at least a cosine, int64 [2, M].

    Args:
        keys: as :func:`end_keys` gives them, uint64 [N, 2].
        units: vectors at unit length, float16 [N, E].
    """
    pairs = [_same(keys[:, end]) for end in range(keys.shape[1])]
    one, other = np.concatenate([np.zeros((2, 0), np.int64), *pairs], axis=1)
    kept = np.zeros(len(one), dtype=bool)
    for start in range(0, len(one), 8192):
        block = slice(start, start + 8192)
        sides = (units[each[block]].astype(np.float32) for each in (one, other))
        kept[block] = np.einsum("ne,ne->n", *sides) >= least
    return np.stack([one[kept], other[kept]])


def _same(keys: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Pairs of rows with one key, int64 [2, M]; of many rows with one, neighbours alone."""
    rows = np.flatnonzero(keys != NONE)
    rows = rows[np.argsort(keys[rows], kind="stable")]
    starts = np.flatnonzero(np.diff(keys[rows], prepend=np.uint64(NONE)))
    sizes = np.diff(starts, append=len(rows))
    found = [np.zeros((2, 0), np.int64)]
    for step in range(1, ALL_PAIRS):
        fits = sizes > step if step == 1 else (sizes > step) & (sizes <= ALL_PAIRS)
        if not fits.any():
            break
        firsts = _ranges(starts[fits], sizes[fits] - step)
        found.append(np.stack([rows[firsts], rows[firsts + step]]))
    return np.concatenate(found, axis=1)


def _ranges(starts: NDArray[np.int64], sizes: NDArray[np.int64]) -> NDArray[np.int64]:
    """All of ``start, start + 1 …`` for each start, so many as its size, int64."""
    ends = np.cumsum(sizes)
    found: NDArray[np.int64] = np.arange(ends[-1]) + np.repeat(starts - (ends - sizes), sizes)
    return found
