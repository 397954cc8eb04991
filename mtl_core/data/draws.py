"""Draw rows from a split: hold some out without leaks, sample, balance the classes."""

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from mtl_core.data.splits import LabelledTexts, listed
from mtl_core.errors import DataError
from mtl_core.pulse import ROWS, Pulse, no_pulse, pulsing

HELD_OUT_ROWS_A_CLASS = 20
CHECKED_SHARE = 0.1
"""Share of a task's rows that rows checked by hand make up, if :data:`CHECKED_TIMES` allows it."""
CHECKED_TIMES = 12
"""How often a checked row counts at most."""


def containment_groups(texts: Sequence[str], pulse: Pulse = no_pulse) -> NDArray[np.int64]:
    """Group each text with the longer text of the list that contains it as a run of whole words.

    SST-2's training split holds sentences and dozens of phrases of each. If a phrase were held out
    and its sentence trained on, the model would know the phrase, and its scores would be too good.

    Returns:
        the number of each text's group, int64 [N].
    """
    words = [tuple(text.lower().split()) for text in texts]
    # By the first two words (or the one word) of a text: the lengths, in words, of all texts that
    # begin so. Only runs of these lengths need be looked up where a text holds these words.
    lengths: dict[tuple[str, ...], set[int]] = defaultdict(set)
    for text in words:
        lengths[text[:2]].add(len(text))
    group_of: dict[tuple[str, ...], int] = {}
    groups = np.empty(len(texts), dtype=np.int64)
    longest_first = sorted(range(len(texts)), key=lambda row: -len(words[row]))
    for row in pulsing(longest_first, pulse, ROWS):
        text = words[row]
        group = group_of.setdefault(text, row)
        groups[row] = group
        for start in range(len(text)):
            for begin in (text[start : start + 1], text[start : start + 2]):
                for length in lengths.get(begin, ()):
                    if start + length <= len(text):
                        group_of.setdefault(text[start : start + length], group)
    return groups


def check_enough(data: LabelledTexts, fraction: float) -> float:
    """Check that rows can be held out, and return the share of them to hold out.

    For small data ``fraction`` is raised until it makes 20 rows for each label, but to no more than
    a fifth of the rows. If one side would then have fewer rows than there are classes, the share is
    one row for each class, as long as that is at most half of the rows.

    Raises:
        DataError: a class has too few rows to stand on both sides, or there is only one class, or
            all rows hold the same text.
    """
    classes, counts = np.unique(data.labels, return_counts=True)
    what = f"task '{data.task.name}'"
    names = data.task.labels
    if len(classes) < 2:
        raise DataError(
            f"{what}: all {len(data):,} rows to train on are labelled '{names[classes[0]]}'; "
            "there must be rows of two labels at least"
        )
    if len({" ".join(text.lower().split()) for text in data.texts}) < 2:
        raise one_text_alone(data)
    rare = [names[label] for label in classes[counts < 2]]
    if rare:
        raise DataError(
            f"{what}: of {len(data):,} rows to train on only one is labelled {listed(rare)}; "
            "rows are held out, so there must be two of each label at least"
        )
    wanted = HELD_OUT_ROWS_A_CLASS * len(names)
    fraction = max(fraction, min(0.2, wanted / len(data)))
    if min(math.ceil(len(data) * fraction), len(data) * (1 - fraction)) >= len(classes):
        return fraction
    if (share := len(classes) / len(data)) <= 0.5:  # many labels with few rows: one of each
        return share
    raise DataError(
        f"{what}: {len(data):,} rows to train on are too few for {len(classes):,} labels; "
        "rows are held out, so there must be two of each label at least"
    )


def one_text_alone(data: LabelledTexts) -> DataError:
    """The error for rows that all hold the same text or parts of it."""
    return DataError(
        f"task '{data.task.name}': all {len(data):,} rows to train on hold one text or parts of "
        "it; rows cannot be held out of them"
    )


def split_held_out(
    data: LabelledTexts, fraction: float, seed: int, pulse: Pulse = no_pulse
) -> tuple[LabelledTexts, LabelledTexts]:
    """Split the rows into those to train on and those held out.

    Texts that are part of each other stay on the same side. If no text is part of another, or if a
    class would then be missing on one side, rows are drawn without regard to that, and each class
    gives the same share. Of small data more is held out, see :func:`check_enough`.

    Returns:
        the rows to train on, and those held out.
    Raises:
        DataError: as :func:`check_enough`, or all texts are part of one.
    """
    from sklearn.model_selection import GroupShuffleSplit, train_test_split

    rows = np.arange(len(data))
    fraction = check_enough(data, fraction)
    groups = containment_groups(data.texts, pulse)
    if (distinct := len(np.unique(groups))) == 1:
        raise one_text_alone(data)
    if distinct < len(rows):
        splitter = GroupShuffleSplit(n_splits=1, test_size=fraction, random_state=seed)
        train, held_out = next(splitter.split(rows, groups=groups))
        present = [len(np.unique(data.labels[side])) for side in (train, held_out)]
        if min(present) == len(np.unique(data.labels)):
            return data.take(np.sort(train)), data.take(np.sort(held_out))
    try:
        train, held_out = train_test_split(
            rows, test_size=fraction, random_state=seed, stratify=data.labels
        )
    except ValueError as error:
        raise DataError(
            f"task '{data.task.name}': {len(data)} rows cannot be split with "
            f"{fraction:.0%} held out ({error})"
        ) from error
    return data.take(np.sort(train)), data.take(np.sort(held_out))


def balance_classes(data: LabelledTexts, seed: int) -> LabelledTexts:
    """Draw as many rows from each class as the smallest class has, order kept."""
    generator = np.random.default_rng(seed)
    classes, counts = np.unique(data.labels, return_counts=True)
    drawn = [
        generator.choice(np.flatnonzero(data.labels == label), counts.min(), replace=False)
        for label in classes
    ]
    return data.take(np.sort(np.concatenate(drawn)))


def weigh_checked(checked: LabelledTexts, rows: int) -> LabelledTexts:
    """Repeat rows checked by hand, so that a few of them count among many others.

    Args:
        rows: how many others there are.
    """
    times = min(CHECKED_TIMES, max(1, round(CHECKED_SHARE * rows / max(1, len(checked)))))
    weighted = checked.take(np.repeat(np.arange(len(checked)), times))
    if times == 1:
        return weighted
    note = f"{checked.where}: each of {len(checked):,} checked rows counts as {times}"
    return replace(weighted, notes=(*weighted.notes, note))


def sample_rows(data: LabelledTexts, rows: int | None, seed: int) -> LabelledTexts:
    """A seeded sample of at most ``rows`` rows, order kept; all of them when None."""
    if rows is None or rows >= len(data):
        return data
    drawn = np.random.default_rng(seed).choice(len(data), rows, replace=False)
    return data.take(np.sort(drawn))
