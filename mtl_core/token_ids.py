"""Token ids of many texts in one array: 4 bytes a token, where lists of ints take 36."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class TokenIds:
    """Token ids of N texts, all texts' tokens one after the other."""

    values: NDArray[np.int32]
    """int32 [tokens]."""
    lengths: NDArray[np.int64]
    """Tokens of each text, int64 [N]."""

    @classmethod
    def of(cls, rows: Sequence[Sequence[int]]) -> "TokenIds":
        """From one sequence of ids a text."""
        lengths = np.fromiter(map(len, rows), dtype=np.int64, count=len(rows))
        return cls(np.fromiter(chain.from_iterable(rows), np.int32, int(lengths.sum())), lengths)

    @classmethod
    def joined(cls, some: Iterable["TokenIds"]) -> "TokenIds":
        """The texts of several, in their order."""
        parts = list(some)
        return cls(
            np.concatenate([np.empty(0, np.int32), *(part.values for part in parts)]),
            np.concatenate([np.empty(0, np.int64), *(part.lengths for part in parts)]),
        )

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[NDArray[np.int32]]:
        """The ids of each text."""
        return iter(np.split(self.values, np.cumsum(self.lengths)[:-1])) if len(self) else iter(())

    @property
    def nbytes(self) -> int:
        """Bytes of memory."""
        return self.values.nbytes + self.lengths.nbytes

    def take(self, rows: NDArray[np.int64]) -> "TokenIds":
        """Some texts, in the order of ``rows``, int64 [M]."""
        lengths = self.lengths[rows]
        return TokenIds(self.values[_places(starts_of(self.lengths)[rows], lengths)], lengths)

    def cut(self, most: int) -> "TokenIds":
        """Each text's first ``most`` ids at most; a text that is cut keeps its last id as its last.

        The last id is the special token that closes a text.
        """
        lengths = np.minimum(self.lengths, most)
        starts = starts_of(self.lengths)
        values = self.values[_places(starts, lengths)]
        cut = np.flatnonzero(self.lengths > most)
        values[starts_of(lengths)[cut] + most - 1] = self.values[
            starts[cut] + self.lengths[cut] - 1
        ]
        return TokenIds(values, lengths)

    def padded(self, filler: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Texts padded to the longest of them.

        Returns:
            ids and mask (1 where there is a token), int64 [N, T] each; T is at least 1.
        """
        mask = np.arange(int(self.lengths.max(initial=1))) < self.lengths[:, None]
        ids = np.full(mask.shape, filler, dtype=np.int64)
        ids[mask] = self.values
        return ids, mask.astype(np.int64)


def starts_of(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where each text's tokens begin when all stand one after the other, int64 [N]."""
    return np.cumsum(lengths) - lengths


def _places(starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """The places of all tokens of texts that begin at ``starts``, int64 [sum of lengths]."""
    return np.repeat(starts - starts_of(lengths), lengths) + np.arange(int(lengths.sum()))
