"""Load one split of a task: its usable rows, and notes about them for the user."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from mtl_core.errors import DataError
from mtl_core.pulse import Pulse, no_pulse, with_pulse
from mtl_core.tasks import Task, TaskSource

SHOWN = 10
"""How many names one message lists at most."""


@dataclass(frozen=True)
class LabelledTexts:
    """Texts of one task with their classes."""

    task: Task
    texts: list[str]
    labels: NDArray[np.int64]
    """Class index of each text, int64 [N]."""

    def __len__(self) -> int:
        return len(self.texts)

    where: str = ""
    """Name of the file or data set, without folders of a machine, for notes."""
    notes: tuple[str, ...] = ()
    """Which rows were left out or are doubtful, for the model's card and the user."""
    checked: NDArray[np.bool_] | None = None
    """Whether a person checked the label of each row, bool [N]; None: nobody did."""

    def parted(self) -> "tuple[LabelledTexts, LabelledTexts]":
        """The rows that nobody checked, with all notes, and those that were checked."""
        if self.checked is None:
            return self, self.take(np.zeros(0, dtype=np.int64))
        return self.take(np.flatnonzero(~self.checked)), replace(
            self.take(np.flatnonzero(self.checked)), notes=()
        )

    def joined(self, more: "LabelledTexts") -> "LabelledTexts":
        """These rows, and behind them further rows of the same task, with both's notes."""
        checked = [
            np.zeros(len(each), dtype=bool) if each.checked is None else each.checked
            for each in (self, more)
        ]
        return replace(
            self,
            texts=self.texts + more.texts,
            labels=np.concatenate([self.labels, more.labels]),
            notes=(*self.notes, *more.notes),
            checked=np.concatenate(checked) if any(map(np.any, checked)) else None,
        )

    def take(self, rows: NDArray[np.int64]) -> "LabelledTexts":
        """The given rows, in the given order."""
        return replace(
            self,
            texts=[self.texts[row] for row in rows],
            labels=self.labels[rows],
            checked=None if self.checked is None else self.checked[rows],
        )

    def digest(self) -> str:
        """SHA-256 of the task's labels, the texts and their classes, hexadecimal."""
        digest = hashlib.sha256(repr(self.task.labels).encode())
        digest.update(np.fromiter(map(len, self.texts), np.int64, len(self)).tobytes())
        for text in self.texts:
            digest.update(text.encode())
        digest.update(self.labels.tobytes())
        return digest.hexdigest()


LoadSplit = Callable[[Task, str], LabelledTexts]
"""A function that loads a task's split by name; it raises DataError if it cannot."""


def load_split(
    task: Task, split: str, data_dir: Path | None = None, pulse: Pulse = no_pulse
) -> LabelledTexts:
    """Load one split of a task from a data folder or the hub.

    A task with files of its own is read by :func:`jobs.train.data.load_split`, which knows
    their formats.

    Args:
        task: must have a source.
        split: the source's training or evaluation split.
        data_dir: folder laid out as ``<task folder>/<split>.parquet``; None loads from the hub.
    Raises:
        DataError: the task has no source, or files of its own; a file or column is missing; a label
            is none of the task's; or the hub does not answer.
    """
    source = task.source
    if source is None:
        raise DataError(f"task '{task.name}' names no data to train or evaluate on")
    if source.files:
        raise DataError(f"task '{task.name}' has files of its own; give what reads them")
    where, texts, values = _load(source, split, data_dir, pulse)
    classes = _classes(task, where, values)
    blank = np.array([text is None or not str(text).strip() for text in texts], dtype=bool)
    notes = [f"{counted(int(blank.sum()), 'row')} without text left out"] if blank.any() else []
    kept = np.flatnonzero(~blank)
    name = f"{source.folder}/{split}" if data_dir is not None else where
    return usable(task, name, [str(texts[row]) for row in kept], classes[kept], notes)


def usable(
    task: Task, name: str, texts: list[str], labels: NDArray[np.int64], notes: Sequence[str]
) -> LabelledTexts:
    """Put texts and classes together, with notes on contradicting and missing labels.

    Args:
        name: name of the file or data set. The model's card shows it, so it holds no folders of a
            machine.
        notes: notes on what was found earlier; they come first.
    Raises:
        DataError: there are no rows.
    """
    if not texts:
        left_out = f" ({'; '.join(notes)})" if notes else ""
        raise DataError(f"{name}: no rows to train or evaluate on{left_out}")
    found = list(notes)
    first: dict[str, int] = {}
    doubtful = {
        text
        for text, label in zip(texts, labels.tolist(), strict=True)
        if first.setdefault(text, label) != label
    }
    if doubtful:
        rows = sum(text in doubtful for text in texts)
        what = counted(len(doubtful), "text")
        found.append(f"{counted(rows, 'row')} hold {what} that have contradicting labels")
    missing = [task.labels[n] for n in np.setdiff1d(np.arange(len(task.labels)), labels)]
    if missing:
        found.append(f"no row is labelled {listed(missing)}")
    return LabelledTexts(task, texts, labels, name, tuple(f"{name}: {note}" for note in found))


def counted(count: int, thing: str) -> str:
    """A number and the name of what it counts, in the plural unless it is 1."""
    return f"{count:,} {thing}{'' if count == 1 else 's'}"


def listed(names: Sequence[str]) -> str:
    """Names in quotes; the first :data:`SHOWN` of them, then how many more there are."""
    more = f" and {len(names) - SHOWN:,} more" if len(names) > SHOWN else ""
    return ", ".join(f"'{name}'" for name in names[:SHOWN]) + more


def _classes(task: Task, where: str, values: list[Any]) -> NDArray[np.int64]:
    """Class indices, int64 [N], of a column that holds class indices or label names."""
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


def _load(
    source: TaskSource, split: str, data_dir: Path | None, pulse: Pulse
) -> tuple[str, list[Any], list[Any]]:
    """Load a split: its name for messages, its column of texts, its column of labels."""
    columns = [source.text_column, source.label_column]
    if data_dir is not None:
        path = Path(data_dir) / source.folder / f"{split}.parquet"
        if not path.is_file():
            raise DataError(
                f"no file {path}; the data folder must hold {source.folder}/{split}.parquet"
            )
        pulse()
        table = read_columns(path, columns)
        return str(path), *(table.column(name).to_pylist() for name in columns)
    import datasets

    datasets.disable_progress_bars()
    where = f"{source.hub_name} ({split})"
    try:
        dataset = with_pulse(
            pulse, lambda: datasets.load_dataset(source.hub_name, source.hub_config, split=split)
        )
    except Exception as error:  # of many types; each means that the hub did not give it
        pulse()  # if the pulse ended the call, it raises its exception again
        raise DataError(
            f"{where}: the hub did not give it ({_first_line(error)}); "
            "give a local folder by --data or MTL_DATA_DIR"
        ) from error
    return where, list(dataset[columns[0]]), list(dataset[columns[1]])


def read_columns(path: Path, columns: list[str]) -> pa.Table:
    """Read some columns of a Parquet file.

    Raises:
        DataError: the file cannot be read, or lacks one of the columns.
    """
    try:
        names = pq.read_schema(path).names
        for column in columns:
            if column not in names:
                raise DataError(f"{path}: no column '{column}'; it has: {', '.join(names)}")
        return pq.read_table(path, columns=columns, partitioning=None)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path}: not a readable Parquet file ({_first_line(error)})") from error


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [repr(error)])[0][:160]
