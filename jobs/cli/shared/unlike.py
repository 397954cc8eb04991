"""What is said where many rows of a label job are unlike the texts that a task was trained on."""

from collections.abc import Mapping

from mtl_core.config import UNTYPICAL_BELOW

UNLIKE_SHARE = 0.1
"""If more rows than this share do not fit a task, it is said; 5 % of texts like those trained on do
not."""


def unlike_lines(rows: int, untypical: Mapping[str, int]) -> list[str]:
    """A line for each task that more than a tenth of the rows do not fit.

    Args:
        rows: how many were labelled.
        untypical: by task, how many of them are of a typicality below UNTYPICAL_BELOW; of rows that
            are like the texts trained on, about as large a share is.
    """
    return [
        f"{task}: {100 * number / rows:.0f} % of the rows are unlike the texts it was trained on "
        f"({task}_typicality below {UNTYPICAL_BELOW})"
        for task, number in untypical.items()
        if number > rows * UNLIKE_SHARE
    ]
