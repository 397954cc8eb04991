"""A task's own data files: read as ``mtl label`` reads its input, with labels matched by name."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from jobs.input.files import AsGiven, fingerprint
from jobs.input.folders import Located
from jobs.input.readers import BadRow, fields_of
from jobs.input.source import open_source, read_source
from jobs.review.reviewed import NOT_SURE
from jobs.specs import InputFile, UnlabelledFile
from jobs.train.labels import match_labels, names_of
from mtl_core.data import splits as data
from mtl_core.data.splits import SHOWN, LabelledTexts, LoadSplit
from mtl_core.errors import DataError, InputError
from mtl_core.files import file_sha256
from mtl_core.pulse import Pulse, no_pulse, pulsing
from mtl_core.storage.parquet import ROW_ID
from mtl_core.tasks import Task

EMPTY: Mapping[str, str] = MappingProxyType({})


def path_of(task: Task, split: str, data_dir: Path | None) -> Path:
    """The local file of a task's split.

    Raises:
        DataError: it is not there.
    """
    assert task.source is not None
    if task.source.files:
        path, where = Path(task.source.files[split]), "correct the task file"
    else:
        assert data_dir is not None
        path = data_dir / task.source.folder / f"{split}.parquet"
        where = "give the data folder by --data or MTL_DATA_DIR"
    if not path.is_file():
        raise DataError(f"no file {path}; {where}")
    return path


def described(path: Path, *columns: str) -> InputFile:
    """Describe one local file: how to read it, and its fingerprint.

    Args:
        columns: names of columns that it should have.
    Raises:
        DataError: the file is empty, unreadable, or of no known format.
    """
    try:
        return fingerprint(Located(path), AsGiven(text_columns=columns))
    except InputError as error:
        raise DataError(str(error)) from error


def check_unchanged(files: Sequence[InputFile], pulse: Pulse = no_pulse) -> None:
    """Raise DataError unless files hold what they held when they were described."""
    for file in files:
        path = Path(file.path)
        if not path.is_file():
            raise DataError(f"no file {path}; it was there when the job was submitted")
        pulse()
        if file_sha256(path) != file.sha256:
            raise DataError(f"{path} has changed since the job was submitted; train again")


def load_split(
    task: Task,
    split: str,
    data_dir: Path | None = None,
    files: Mapping[str, InputFile] | None = None,
    pulse: Pulse = no_pulse,
) -> LabelledTexts:
    """Load one split of a task, from the task's own file or from a known data set.

    Rows that labelling would set aside (no text, not readable) are left out and noted.

    Args:
        files: how to read files, by their resolved paths; a file that is not among them is
            looked at anew.
    Raises:
        DataError: as :func:`mtl_core.data.splits.load_split`; a bad label with its file and row.
    """
    if task.source is None or not task.source.files:
        return data.load_split(task, split, data_dir, pulse)
    path = path_of(task, split, data_dir)
    columns = (task.source.text_column, task.source.label_column)
    file = (files or {}).get(str(path.resolve())) or described(path, *columns)
    rows = _read(file, columns[:1], task.source.label_column, pulse)
    classes, notes = match_labels(task, file.name, rows.values, rows.numbers)
    return data.usable(task, path.name, rows.texts, classes, [*_left_out(rows.bad), *notes])


def load_added(
    task: Task, files: Sequence[InputFile], pulse: Pulse = no_pulse
) -> LabelledTexts | None:
    """Load a task's further rows: those with a label in the column that has the task's name.

    A file without such a column has no rows for the task. Rows of a table with ``row_id`` were
    checked by hand, unless it is an output, whose labels come with a score; a label ``?`` is none.

    Returns:
        the rows of all files in their order; None if there are none.
    Raises:
        DataError: a file has no column to read texts from, or a label is none of the task's.
    """
    found: LabelledTexts | None = None
    for file in files:
        columns = columns_of(file)
        if task.name not in columns:
            continue
        checked = ROW_ID in columns and f"{task.name}_score" not in columns
        rows = _read(file, (), task.name, pulse).labelled(NOT_SURE if checked else "")
        if not rows.texts:
            continue
        name = Path(file.path).name
        classes, notes = match_labels(task, file.name, rows.values, rows.numbers)
        said = f"{name}: {len(rows.texts):,} rows added for {task.name}"
        more = data.usable(task, name, rows.texts, classes, [said, *_left_out(rows.bad), *notes])
        if checked:
            more = replace(more, checked=np.ones(len(more), dtype=bool))
        found = more if found is None else found.joined(more)
    return found


def load_unlabelled(
    task: Task,
    unlabelled: Sequence[UnlabelledFile],
    files: Sequence[InputFile],
    pulse: Pulse = no_pulse,
) -> list[str]:
    """Texts without labels to train a task on, of all files that are for it.

    Args:
        files: how to read files.
    Raises:
        DataError: a file is damaged or has no column to read texts from.
    """
    described = {file.path: file for file in files}
    texts: list[str] = []
    for each in unlabelled:
        if each.task in ("", task.name):
            texts += _read(described[each.path], (), None, pulse).texts
    return texts


def split_loader(
    data_dir: Path | None,
    files: Sequence[InputFile] = (),
    trained_on: Mapping[str, str] = EMPTY,
    pulse: Pulse = no_pulse,
) -> LoadSplit:
    """Make a function that loads a split of any task of a run or of a trained model.

    Args:
        files: how to read files.
        trained_on: names of the files that a model was trained on, by SHA-256. If such a file has
            changed since, its train split is refused: the rows then held out are no longer known.
    """
    known = {file.path: file for file in files}

    def load(task: Task, split: str) -> LabelledTexts:
        source = task.source
        if trained_on and source is not None and source.files and split == source.train_split:
            path = path_of(task, split, data_dir)
            if file_sha256(path) not in trained_on:
                raise DataError(
                    f"{path} has changed since the model was trained, so the rows then held out "
                    "are not known; name an evaluation file in the task file and train again"
                )
        return load_split(task, split, data_dir, known, pulse)

    return load


@dataclass
class _Rows:
    texts: list[str] = field(default_factory=list)
    values: list[Any] = field(default_factory=list)
    """What stands in the label column."""
    numbers: list[int] = field(default_factory=list)
    """The number of each row among the file's data rows, from 1."""
    bad: list[BadRow] = field(default_factory=list)

    def labelled(self, unsure: str) -> "_Rows":
        """Without the rows whose label is missing, blank or ``unsure``."""
        rows = [
            place
            for place, value in enumerate(self.values)
            if any(name.strip() not in ("", unsure) for name in names_of(value))
        ]
        return _Rows(
            [self.texts[row] for row in rows],
            [self.values[row] for row in rows],
            [self.numbers[row] for row in rows],
            self.bad,
        )


def columns_of(file: InputFile) -> list[str]:
    """Names of a file's columns; an InputError becomes a DataError."""
    try:
        return [each.name for each in fields_of(file)]
    except InputError as error:
        raise DataError(str(error)) from error


def _read(file: InputFile, text_columns: Sequence[str], column: str | None, pulse: Pulse) -> _Rows:
    """Read a file's texts and one column of labels.

    Args:
        text_columns: as for :func:`jobs.input.source.open_source`.
        column: the column of labels; None reads texts alone.
    Raises:
        DataError: the file is damaged or lacks a column.
    """
    rows = _Rows()
    try:
        source = open_source([file], text_columns, set())
        names = list(source.names)
        if column is not None and column not in names:
            raise InputError(f"{file.name}: no column '{column}'; it has: {', '.join(names)}")
        for numbered in pulsing(read_source(source), pulse):
            chunk = numbered.chunk
            rows.texts += chunk.table.column(source.text.name).to_pylist()
            rows.values += chunk.table.column(column).to_pylist() if column is not None else []
            rows.numbers += chunk.rows
            rows.bad += chunk.bad
    except InputError as error:
        raise DataError(str(error)) from error
    return rows


def _left_out(bad: Sequence[BadRow]) -> list[str]:
    """A line for each reason: how many rows were left out for it, and the first of them."""
    reasons = Counter(row.reason for row in bad)
    first = {row.reason: row.row for row in reversed(bad)}
    found = [
        f"{data.counted(count, 'row')} left out, the first {first[reason]}: {reason}"
        for reason, count in reasons.most_common(SHOWN)
    ]
    rest = sum(reasons.values()) - sum(count for _, count in reasons.most_common(SHOWN))
    return (
        [*found, f"{data.counted(rest, 'row')} more left out for other reasons"] if rest else found
    )
