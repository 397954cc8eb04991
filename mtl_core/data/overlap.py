"""Find the rows of an evaluation split that a model may know from its training rows.

Even an official split can overlap with the training rows: the local AG News training file holds
other copies, without titles, of half of the test texts. A figure over all rows then flatters the
model.
"""

import re
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from mtl_core.pulse import ROWS, Pulse, no_pulse, pulsing

RUN_WORDS = 8
WORD = re.compile(r"[^\W_]+")


def unseen_rows(
    texts: Sequence[str], trained_on: Sequence[str], pulse: Pulse = no_pulse
) -> NDArray[np.bool_]:
    """Find rows that share no run of eight words with any training text.

    Case and punctuation are ignored. A text of fewer than eight words is one run. Eight is the
    lower end of what the overlap checks of large language models use (8 to 13 words).

    Returns:
        whether each text is unseen, bool [N].
    """
    known = {run for text in pulsing(trained_on, pulse, ROWS) for run in _runs(text)}
    unseen = (not any(run in known for run in _runs(text)) for text in pulsing(texts, pulse, ROWS))
    return np.fromiter(unseen, dtype=bool, count=len(texts))


def _runs(text: str) -> Iterator[int]:
    words = WORD.findall(text.lower())
    for start in range(max(1, len(words) - RUN_WORDS + 1)):
        yield hash(tuple(words[start : start + RUN_WORDS]))
