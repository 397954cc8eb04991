"""Labelled texts: loading splits, stratified and balanced draws, batches of like length."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mtl_core.errors import DataError
from mtl_core.tasks import Task

# Rows are sorted by length inside pools of this many batches: long enough that padding nearly
# vanishes, short enough that a batch still mixes texts from all over the split.
POOL_BATCHES = 50


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
        split: ``train`` or the task's evaluation split.
        data_dir: folder laid out as ``<task folder>/<split>.parquet``; None loads from the hub.
    Raises:
        DataError: no source, file, column, or a label out of range; or the hub does not answer.
    """
    if task.source is None:
        raise DataError(f"task '{task.name}' names no data to train or evaluate on")
    source = task.source
    where, dataset = _load(task, split, data_dir)
    for column in (source.text_column, source.label_column):
        if column not in dataset.column_names:
            raise DataError(
                f"{where}: no column '{column}'; it has: {', '.join(dataset.column_names)}"
            )
    texts = list(dataset[source.text_column])
    labels = np.asarray(dataset[source.label_column], dtype=np.int64)
    if not texts:
        raise DataError(f"{where}: no rows")
    if labels.min() < 0 or labels.max() >= len(task.labels):
        row = int(np.argmax((labels < 0) | (labels >= len(task.labels))))
        raise DataError(
            f"{where}: row {row} has label {labels[row]}; "
            f"task '{task.name}' has classes 0 to {len(task.labels) - 1}"
        )
    return LabelledTexts(task, texts, labels)


def _load(task: Task, split: str, data_dir: Path | None):  # type: ignore[no-untyped-def]
    import datasets

    datasets.disable_progress_bars()
    source = task.source
    assert source is not None
    if data_dir is not None:
        path = Path(data_dir) / source.folder / f"{split}.parquet"
        if not path.is_file():
            raise DataError(
                f"no file {path}; the data folder must hold {source.folder}/{split}.parquet"
            )
        try:
            return str(path), datasets.Dataset.from_parquet(str(path), keep_in_memory=True)
        except Exception as error:  # datasets wraps Arrow's errors in several of its own
            raise DataError(
                f"{path}: not a readable Parquet file ({_first_line(error)})"
            ) from error
    where = f"{source.hub_name} ({split})"
    try:
        return where, datasets.load_dataset(source.hub_name, source.hub_config, split=split)
    except Exception as error:  # the hub client raises many kinds; all mean "not to be had"
        raise DataError(
            f"{where}: the hub did not give it ({_first_line(error)}); "
            "give a local folder by --data or MTL_DATA_DIR"
        ) from error


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [repr(error)])[0][:160]


def split_held_out(
    data: LabelledTexts, fraction: float, seed: int
) -> tuple[LabelledTexts, LabelledTexts]:
    """Split off a share of the rows, each class in the same proportion.

    Returns:
        the rows to train on, and those held out.
    Raises:
        DataError: a class has too few rows to stand on both sides.
    """
    from sklearn.model_selection import train_test_split

    rows = np.arange(len(data))
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
