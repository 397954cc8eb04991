"""Cut rows into batches of similar length: by rows for training, by tokens for inference."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

# Rows are sorted by length inside pools of this many batches: long enough that padding nearly
# vanishes, short enough that a batch still mixes texts from all over the split.
POOL_BATCHES = 50


def batches_by_length(
    lengths: NDArray[np.int64], batch_rows: int, generator: np.random.Generator
) -> Iterator[NDArray[np.int64]]:
    """Shuffle rows, sort them by length within pools, and cut batches; every row once.

    Args:
        lengths: tokens of each row, int64 [N].
    Yields:
        row numbers of one batch, int64 [at most batch_rows]; batches of a pool in random order.
    """
    order = generator.permutation(len(lengths))
    pool_rows = batch_rows * POOL_BATCHES
    for start in range(0, len(order), pool_rows):
        pool = order[start : start + pool_rows]
        pool = pool[np.argsort(lengths[pool], kind="stable")]
        batches = [pool[i : i + batch_rows] for i in range(0, len(pool), batch_rows)]
        for index in generator.permutation(len(batches)):
            yield batches[index]


def token_batches(
    lengths: NDArray[np.int64], budget: int, alike: float = 0.0
) -> Iterator[NDArray[np.int64]]:
    """Cut rows into batches of similar length whose padded size stays within a budget.

    Args:
        lengths: tokens of each row, int64 [N].
        budget: tokens, padding counted; a row longer than the budget is a batch of its own.
        alike: tokens that a batch's shortest row has at least, as a share of its longest row's; 0:
            as many rows as the budget allows.
    Yields:
        row numbers, longest texts first, every row once. Longest first: if memory is short, the
        first batch shows it, not the last.
    """
    order = np.argsort(-lengths, kind="stable")
    descending, start = -lengths[order], 0
    while start < len(order):
        longest = max(1, -int(descending[start]))
        within = start + max(1, budget // longest)
        similar = int(np.searchsorted(descending, -alike * longest, side="right"))
        end = min(within, max(similar, start + 1))
        yield order[start:end]
        start = end
