"""Find texts that training and evaluation share.

Even official splits can overlap: one collection of AG News' training rows held other copies,
without titles or with other spacing, of half of the test texts. A figure over such rows flatters
the model.
"""

import html
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from mtl_core.data.splits import LabelledTexts, counted
from mtl_core.errors import DataError
from mtl_core.pulse import ROWS, Pulse, no_pulse, pulsing

RUN_WORDS = 8
MOST = 0.5
"""Two texts are copies of each other if one shares more than this share of its runs."""
WORD = re.compile(r"[^\W_]+")
# What is left of an entity whose "&" or "&#" was lost: "39;" for an apostrophe, "quot;" …
BROKEN_ENTITY = re.compile(r"#?\b(?:39|34|36|38|quot|amp|lt|gt|nbsp);", re.IGNORECASE)


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


def copied_rows(
    texts: Sequence[str], evaluated: Sequence[str], pulse: Pulse = no_pulse
) -> NDArray[np.bool_]:
    """Find training texts that are copies of an evaluation text, or of most of one.

    A text is one if it shares more than half of its runs of eight words with one evaluation text,
    or if that text shares more than half of its own with it: a copy may lack the title, or have
    one. Case, punctuation, spacing and HTML's entities are ignored.

    Returns:
        whether each text is a copy, bool [N].
    """
    own = [set(_runs(text)) for text in pulsing(evaluated, pulse, ROWS)]
    holders: dict[int, list[int]] = defaultdict(list)
    for row, runs in enumerate(own):
        for run in runs:
            holders[run].append(row)

    def is_copy(text: str) -> bool:
        runs = set(_runs(text))
        shared = Counter(row for run in runs for row in holders.get(run, ()))
        return any(
            count > MOST * len(runs) or count > MOST * len(own[row])
            for row, count in shared.items()
        )

    found = (is_copy(text) for text in pulsing(texts, pulse, ROWS))
    return np.fromiter(found, dtype=bool, count=len(texts))


def without_copies(
    data: LabelledTexts, evaluated: Sequence[str], what: str, pulse: Pulse = no_pulse
) -> LabelledTexts:
    """Leave out rows that are copies of other texts, with a note of how many.

    Args:
        what: which rows these other texts are, in the note.
    Raises:
        DataError: no row is left.
    """
    copied = copied_rows(data.texts, evaluated, pulse)
    if not copied.any():
        return data
    if copied.all():
        raise DataError(
            f"{data.where}: all {len(data):,} rows are copies of {what} rows; give other rows, or "
            "train on these by --keep-overlap"
        )
    count = counted(int(copied.sum()), "row")
    note = f"{data.where}: {count} left out as copies of {what} rows (--keep-overlap keeps them)"
    kept = data.take(np.flatnonzero(~copied))
    return replace(kept, notes=(*data.notes, note))


def _runs(text: str) -> Iterator[int]:
    words = WORD.findall(BROKEN_ENTITY.sub(" ", html.unescape(text)).lower())
    for start in range(max(1, len(words) - RUN_WORDS + 1)):
        yield hash(tuple(words[start : start + RUN_WORDS]))
