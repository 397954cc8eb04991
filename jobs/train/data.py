"""A task's own data files: read as ``mtl label`` reads its input, with labels matched by name."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jobs.input.files import AsGiven, assumptions, fingerprint
from jobs.input.folders import Located
from jobs.input.readers import BadRow, fields_of
from jobs.input.source import open_source, read_source
from jobs.specs import InputFile
from mtl_core.config import TrainConfig
from mtl_core.data import splits as data
from mtl_core.data.draws import check_enough, sample_rows
from mtl_core.data.splits import SHOWN, LabelledTexts, LoadSplit
from mtl_core.data.stsb import STSB_FOLDER, STSB_SPLIT
from mtl_core.errors import DataError, InputError
from mtl_core.files import file_sha256
from mtl_core.pulse import Pulse, no_pulse, pulsing
from mtl_core.suggest import did_you_mean
from mtl_core.tasks import Task

# A label that looks like a number or a boolean. Where a task has one, no column holds positions.
WORD_LIKE_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|true|false", re.IGNORECASE)
POSITION = re.compile(r"[0-9]{1,4}")

EMPTY: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True)
class CheckedData:
    """Training data as it was found when a job was submitted."""

    files: tuple[InputFile, ...] = ()
    """All local files that the run will read."""
    notes: tuple[str, ...] = ()
    """What was assumed, left out or doubtful, a line each."""


def check_data(
    data_dir: Path | None, tasks: Sequence[Task], config: TrainConfig, add: Sequence[Path] = ()
) -> CheckedData:
    """Read all local files that a run will read, so that it does not fail on them later.

    Args:
        data_dir: the data folder; None: data comes from the hub, which is not asked here.
        add: files of further rows to train on.
    Raises:
        DataError: a file is missing or cannot be used; the message says where and why.
    """
    files: dict[str, InputFile] = {}
    notes: list[str] = []
    for task in tasks:
        source = task.source
        if source is None or not (source.files or data_dir):
            continue
        for split in dict.fromkeys((source.train_split, source.evaluation_split)):
            path = _path_of(task, split, data_dir)
            own = described(path, source.text_column, source.label_column)
            files[own.path] = own
            found = load_split(task, split, data_dir, files)
            notes += [f"task '{task.name}': {note}" for note in found.notes]
            if split == source.train_split:
                sampled = sample_rows(found, config.max_rows_per_task, config.seed)
                check_enough(sampled, config.held_out_fraction)
    pairs = data_dir / STSB_FOLDER / f"{STSB_SPLIT}.parquet" if data_dir else None
    if pairs is not None and pairs.is_file():
        files[str(pairs.resolve())] = described(pairs)
    for path in add:
        own = described_added(path, tasks)
        files[own.path] = own
    for task in tasks:
        added = load_added(task, [files[str(path.resolve())] for path in add])
        notes += [f"task '{task.name}': {note}" for note in added.notes] if added else []
    guessed = [line for file in files.values() if (line := assumptions(file))]
    return CheckedData(tuple(files.values()), (*guessed, *notes))


def described_added(path: Path, tasks: Sequence[Task]) -> InputFile:
    """Describe a file of further rows to train on.

    Raises:
        DataError: there is no such file, it cannot be used, or no column has a task's name.
    """
    if not path.is_file():
        raise DataError(f"no file {path}; --add names files of labelled rows")
    file, names = described(path), [task.name for task in tasks]
    if not set(columns := _columns(file)) & set(names):
        raise DataError(
            f"{path}: its labels must be in a column named after their task ({', '.join(names)}); "
            f"it has: {', '.join(columns)}"
        )
    return file


def _path_of(task: Task, split: str, data_dir: Path | None) -> Path:
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
    path = _path_of(task, split, data_dir)
    columns = (task.source.text_column, task.source.label_column)
    file = (files or {}).get(str(path.resolve())) or described(path, *columns)
    rows = _read(file, columns[:1], task.source.label_column, pulse)
    classes, notes = match_labels(task, file.name, rows.values, rows.numbers)
    return data.usable(task, path.name, rows.texts, classes, [*_left_out(rows.bad), *notes])


def load_added(
    task: Task, files: Sequence[InputFile], pulse: Pulse = no_pulse
) -> LabelledTexts | None:
    """Load a task's further rows: those with a label in the column that has the task's name.

    A file without such a column has no rows for the task.

    Returns:
        the rows of all files in their order; None if there are none.
    Raises:
        DataError: a file has no column to read texts from, or a label is none of the task's.
    """
    found: LabelledTexts | None = None
    for file in files:
        if task.name not in _columns(file):
            continue
        rows = _read(file, (), task.name, pulse).labelled()
        if not rows.texts:
            continue
        name = Path(file.path).name
        classes, notes = match_labels(task, file.name, rows.values, rows.numbers)
        more = data.usable(task, name, rows.texts, classes, [*_left_out(rows.bad), *notes])
        found = more if found is None else found.joined(more)
    return found


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
            path = _path_of(task, split, data_dir)
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

    def labelled(self) -> "_Rows":
        """Without the rows whose label is missing or blank."""
        rows = [n for n, value in enumerate(self.values) if any(map(str.strip, _names_of(value)))]
        return _Rows(
            [self.texts[row] for row in rows],
            [self.values[row] for row in rows],
            [self.numbers[row] for row in rows],
            self.bad,
        )


def _columns(file: InputFile) -> list[str]:
    """Names of a file's columns; an InputError becomes a DataError."""
    try:
        return [each.name for each in fields_of(file)]
    except InputError as error:
        raise DataError(str(error)) from error


def _read(file: InputFile, text_columns: Sequence[str], column: str, pulse: Pulse) -> _Rows:
    """Read a file's texts and one column of labels.

    Args:
        text_columns: as for :func:`jobs.input.source.open_source`.
        column: the column of labels.
    Raises:
        DataError: the file is damaged or lacks a column.
    """
    rows = _Rows()
    try:
        source = open_source([file], text_columns, set())
        names = list(source.names)
        if column not in names:
            raise InputError(f"{file.name}: no column '{column}'; it has: {', '.join(names)}")
        for numbered in pulsing(read_source(source), pulse):
            chunk = numbered.chunk
            rows.texts += chunk.table.column(source.text.name).to_pylist()
            rows.values += chunk.table.column(column).to_pylist()
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
    meant = {_key(value): _names_of(value) for value in values}
    classes = {
        key: next((by_name[name] for name in names if name in by_name), -1)
        for key, names in meant.items()
    }
    notes = []
    if classes and max(classes.values()) < 0 and _are_positions(task, meant.values()):
        classes = {key: int(names[0].strip()) for key, names in meant.items()}
        listing = data.listed([f"{n} = {label}" for n, label in enumerate(task.labels)])
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


def _names_of(value: Any) -> tuple[str, ...]:
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
        parts.append(
            f"{what} in {data.counted(count, 'row')}, the first {where}:{first[name]}{hint}"
        )
    if len(counts) > SHOWN:
        parts.append(f"{len(counts) - SHOWN:,} more")
    there = f"positions 0 to {len(task.labels) - 1} of " if positions else ""
    return (
        f"{where}: {data.counted(len(bad), 'row')} {'has' if len(bad) == 1 else 'have'} no label "
        f"of task '{task.name}' (it has "
        f"{there}{data.listed(task.labels)}): {'; '.join(parts)}"
    )
