"""Labelled texts: loading splits, holding rows out without leaks, balanced draws."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mtl_core.errors import DataError
from mtl_core.tasks import Task, TaskSource

HELD_OUT_ROWS_A_CLASS = 20


@dataclass(frozen=True)
class LabelledTexts:
    """Texts of one task with their classes."""

    task: Task
    texts: list[str]
    labels: NDArray[np.int64]
    """Class index of each text, int64 [N]."""

    def __len__(self) -> int:
        return len(self.texts)

    def take(self, rows: NDArray[np.int64]) -> "LabelledTexts":
        """The given rows, in the given order."""
        return LabelledTexts(self.task, [self.texts[row] for row in rows], self.labels[rows])


def load_split(task: Task, split: str, data_dir: Path | None = None) -> LabelledTexts:
    """Load one split of a task through ``datasets``.

    Args:
        task: must have a source.
        split: the source's training or evaluation split.
        data_dir: folder laid out as ``<task folder>/<split>.parquet``; None loads from the hub.
            A task with files of its own is read from them in any case.
    Raises:
        DataError: no source, file, column, or a label that is none of the task's; or the hub does
            not answer.
    """
    if task.source is None:
        raise DataError(f"task '{task.name}' names no data to train or evaluate on")
    source = task.source
    where, dataset = _load(source, split, data_dir)
    for column in (source.text_column, source.label_column):
        if column not in dataset.column_names:
            raise DataError(
                f"{where}: no column '{column}'; it has: {', '.join(dataset.column_names)}"
            )
    texts = [str(text) if text is not None else "" for text in dataset[source.text_column]]
    if not texts:
        raise DataError(f"{where}: no rows")
    return LabelledTexts(task, texts, _classes(task, where, list(dataset[source.label_column])))


def _classes(task: Task, where: str, values: list[Any]) -> NDArray[np.int64]:
    """Label names or class indices as class indices."""
    known: dict[Any, int] = {index: index for index in range(len(task.labels))}
    known |= {label: index for index, label in enumerate(task.labels)}
    try:
        return np.asarray([known[value] for value in values], dtype=np.int64)
    except (KeyError, TypeError):
        row = next(row for row, value in enumerate(values) if value not in known)
        raise DataError(
            f"{where}: row {row} has label {values[row]!r}; task '{task.name}' has classes "
            f"0 to {len(task.labels) - 1} ({', '.join(task.labels)})"
        ) from None


def _load(source: TaskSource, split: str, data_dir: Path | None):  # type: ignore[no-untyped-def]
    import datasets

    datasets.disable_progress_bars()
    if source.files:
        return _load_file(Path(source.files[split]))
    if data_dir is not None:
        path = Path(data_dir) / source.folder / f"{split}.parquet"
        if not path.is_file():
            raise DataError(
                f"no file {path}; the data folder must hold {source.folder}/{split}.parquet"
            )
        return _load_file(path)
    where = f"{source.hub_name} ({split})"
    try:
        return where, datasets.load_dataset(source.hub_name, source.hub_config, split=split)
    except Exception as error:  # the hub client raises many kinds; all mean "not to be had"
        raise DataError(
            f"{where}: the hub did not give it ({_first_line(error)}); "
            "give a local folder by --data or MTL_DATA_DIR"
        ) from error


def _load_file(path: Path):  # type: ignore[no-untyped-def]
    import datasets

    readers = {
        ".parquet": datasets.Dataset.from_parquet,
        ".csv": datasets.Dataset.from_csv,
        ".jsonl": datasets.Dataset.from_json,
    }
    if path.suffix not in readers:
        raise DataError(f"{path}: training data is read from {', '.join(readers)}")
    if not path.is_file():
        raise DataError(f"no file {path}")
    try:
        return str(path), readers[path.suffix](str(path), keep_in_memory=True)
    except Exception as error:  # datasets wraps Arrow's errors in several of its own
        raise DataError(
            f"{path}: not a readable {path.suffix} file ({_first_line(error)})"
        ) from error


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [repr(error)])[0][:160]


def containment_groups(texts: Sequence[str]) -> NDArray[np.int64]:
    """Group texts that are whole-word parts of a longer text of the same list with that text.

    SST-2's training split holds a sentence and dozens of its phrases: a phrase held out of a
    sentence trained on would be known already, and scores on it too good.

    Returns:
        a group's number for each text, int64 [N].
    """
    words = [tuple(text.lower().split()) for text in texts]
    # Lengths of the texts that begin with a pair of words: what is worth looking up where.
    lengths: dict[tuple[str, ...], set[int]] = defaultdict(set)
    for text in words:
        lengths[text[:2]].add(len(text))
    group_of: dict[tuple[str, ...], int] = {}
    groups = np.empty(len(texts), dtype=np.int64)
    for row in sorted(range(len(texts)), key=lambda row: -len(words[row])):
        text = words[row]
        group = group_of.setdefault(text, row)
        groups[row] = group
        for start in range(len(text)):
            for begin in (text[start : start + 1], text[start : start + 2]):
                for length in lengths.get(begin, ()):
                    if start + length <= len(text):
                        group_of.setdefault(text[start : start + length], group)
    return groups


def split_held_out(
    data: LabelledTexts, fraction: float, seed: int
) -> tuple[LabelledTexts, LabelledTexts]:
    """Split off a share of the rows; texts that are part of each other stay on one side.

    Where no text is part of another, or too few would be left of a class, each class gives the
    same share. Of small data more is held out: 20 rows a class, if that is at most a fifth.

    Returns:
        the rows to train on, and those held out.
    Raises:
        DataError: a class has too few rows to stand on both sides.
    """
    from sklearn.model_selection import GroupShuffleSplit, train_test_split

    rows, classes = np.arange(len(data)), len(data.task.labels)
    fraction = max(fraction, min(0.2, HELD_OUT_ROWS_A_CLASS * classes / len(data)))
    groups = containment_groups(data.texts)
    if len(np.unique(groups)) < len(rows):
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


def sample_rows(data: LabelledTexts, rows: int | None, seed: int) -> LabelledTexts:
    """A seeded sample of at most ``rows`` rows, order kept; all of them when None."""
    if rows is None or rows >= len(data):
        return data
    drawn = np.random.default_rng(seed).choice(len(data), rows, replace=False)
    return data.take(np.sort(drawn))
