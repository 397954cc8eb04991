"""Match the values of a label column with a task's labels, by name or position."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mtl_core.data.splits import SHOWN, counted, listed
from mtl_core.errors import DataError
from mtl_core.suggest import did_you_mean
from mtl_core.tasks import Task

# A label that looks like a number or a boolean. Where a task has one, no column holds positions.
WORD_LIKE_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|true|false", re.IGNORECASE)
POSITION = re.compile(r"[0-9]{1,4}")


def match_labels(
    task: Task, where: str, values: Sequence[Any], rows: Sequence[int]
) -> tuple[NDArray[np.int64], list[str]]:
    """Class indices for the values of a label column, int64 [N], and what was assumed, in words.

    A value is the name of its label: ``true``, ``5`` and ``-1`` are names like any other. Values
    are read as positions in the task's list, from 0, only if none of them is a label's name, no
    label looks like a number or a boolean, and the column holds whole numbers alone.

    Args:
        where: the file, for messages.
        rows: the number of each value's data row, from 1.
    Raises:
        DataError: some values are no label; the message says of each how often it comes, its first
            row, and the nearest label.
    """
    by_name = {label: index for index, label in enumerate(task.labels)}
    meant = {_key(value): names_of(value) for value in values}
    classes = {
        key: next((by_name[name] for name in names if name in by_name), -1)
        for key, names in meant.items()
    }
    notes = []
    if classes and max(classes.values()) < 0 and _are_positions(task, meant.values()):
        classes = {key: int(names[0].strip()) for key, names in meant.items()}
        listing = listed([f"{n} = {label}" for n, label in enumerate(task.labels)])
        notes = [f"labels are read as positions in the task's list: {listing}"]
        classes = {key: n if n < len(task.labels) else -1 for key, n in classes.items()}
    found = np.array([classes[_key(value)] for value in values], dtype=np.int64)
    if (found < 0).any():
        wrong = np.flatnonzero(found < 0).tolist()
        bad = [(_shown(meant[_key(values[n])]), rows[n]) for n in wrong]
        raise DataError(_bad_labels(task, where, bad, positions=bool(notes)))
    return found, notes


def _key(value: Any) -> tuple[type, Any]:
    """A value as a key of a dictionary, with its type: to Python, True and 1 are the same key."""
    return type(value), value if value.__hash__ is not None else repr(value)


def names_of(value: Any) -> tuple[str, ...]:
    """The names of labels that a value may mean, the likeliest first; none for a missing value."""
    if value is None or value != value:  # NaN
        return ()
    if isinstance(value, bool):
        name = str(value)
        return name.lower(), name, name.upper()
    if isinstance(value, float) and value.is_integer():
        return str(int(value)), repr(value)
    if isinstance(value, str):
        return (value, value.strip()) if value.strip() else (value,)
    return (str(value),)


def _are_positions(task: Task, meant: Iterable[tuple[str, ...]]) -> bool:
    if any(WORD_LIKE_NUMBER.fullmatch(label.strip()) for label in task.labels):
        return False
    return all(names and POSITION.fullmatch(names[0].strip()) for names in meant)


def _shown(names: Sequence[str]) -> str:
    return names[0] if names else ""


def _bad_labels(task: Task, where: str, bad: Sequence[tuple[str, int]], *, positions: bool) -> str:
    """One line on all values that are no label."""
    counts = Counter(name for name, _ in bad)
    first = dict(reversed(bad))
    parts = []
    for name, count in counts.most_common(SHOWN):
        hint = "" if positions else did_you_mean(name, task.labels, before=", ")
        what = f"'{name}'" if name.strip() else "no label"
        parts.append(f"{what} in {counted(count, 'row')}, the first {where}:{first[name]}{hint}")
    if len(counts) > SHOWN:
        parts.append(f"{len(counts) - SHOWN:,} more")
    there = f"positions 0 to {len(task.labels) - 1} of " if positions else ""
    return (
        f"{where}: {counted(len(bad), 'row')} {'has' if len(bad) == 1 else 'have'} no label "
        f"of task '{task.name}' (it has "
        f"{there}{listed(task.labels)}): {'; '.join(parts)}"
    )
