"""``reviewed.csv``: rows of an output with the labels that a person found right."""

import math
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.feather
import pyarrow.json
import pyarrow.parquet as pq

from jobs.input.files import AsGiven, fingerprint
from jobs.input.folders import Located
from jobs.input.source import Source, open_source, read_source
from jobs.review.label_studio import read_export
from mtl_core.errors import InputError
from mtl_core.model.task_file import MAX_LABELS, MIN_LABELS
from mtl_core.storage.parquet import ROW_ID
from mtl_core.suggest import did_you_mean, near_hint

PART = "part"
WEIGHT = "weight"
OUTPUT = "output"
TEXT = "text"
"""Column of a sheet's texts, whatever the output calls them."""
RANDOM = "random"
UNSURE = "unsure"
NOT_SURE = "?"
"""Stands for a label that the person could not tell; it counts as not checked."""
TYPED: Mapping[str, Callable[[Path], pa.Table]] = {
    "jsonl": pyarrow.json.read_json,
    "parquet": pq.read_table,
    "arrow": pyarrow.feather.read_table,
}
"""Reads what may hold ``row_id`` as a number; what labels texts wants it as text."""


@dataclass(frozen=True)
class ReviewedRow:
    """A row that a person looked at."""

    row_id: int
    labels: Mapping[str, str]
    """The right label by task, of those that were checked."""
    part: str
    """Whether a review sheet drew it at ``random`` or as ``unsure``; empty: no sheet did."""
    weight: float | None
    """How many rows of the output a random row stands for, itself included."""
    output: str = ""
    """Path or address of the output that a review sheet was drawn from; empty: no sheet was."""


def read_reviewed(path: Path, tasks: Mapping[str, Sequence[str]]) -> list[ReviewedRow]:
    """Read a file of checked rows: csv, any other table that `mtl label` reads, or Label Studio's.

    Columns: ``row_id``; one for each task with the right label, empty or ``?`` where it was not
    checked; ``part``, ``weight`` and ``output``, as a review sheet writes them. Others are passed
    over.

    Args:
        tasks: the labels of each task of the output.
    Raises:
        InputError: the file cannot be read, lacks a column, or a value is none; the message says
            which row, counted from 1 below the header.
    """
    rows: list[ReviewedRow] = []
    first: dict[int, str] = {}
    for number, values in _rows(path, tasks):
        where = f"{path}:{number}"
        row = _row(where, values, tasks)
        if row.row_id in first:
            raise InputError(f"{where}: row {row.row_id} is in {first[row.row_id]}, too")
        first[row.row_id] = where
        rows.append(row)
    if not any(row.labels for row in rows):
        raise InputError(f"{path}: no row has a label; the tasks are: {', '.join(tasks)}")
    return rows


def labels_in(paths: Sequence[Path], task: str) -> tuple[str, ...]:
    """The labels that stand in the column of a new task, in alphabetical order.

    Raises:
        InputError: as :func:`read_reviewed`; there are fewer than two labels or too many, or one
            stands in one row alone, as a mistyped one would.
    """
    first: dict[str, str] = {}
    counts: Counter[str] = Counter()
    for path in paths:
        for number, values in _rows(path, [task]):
            if (label := _text(values.get(task))) not in ("", NOT_SURE):
                first.setdefault(label, f"{path}:{number}")
                counts[label] += 1
    if not MIN_LABELS <= len(counts) <= MAX_LABELS:
        raise InputError(
            f"{', '.join(map(str, paths))}: column '{task}' holds {len(counts):,} labels; "
            f"a task has {MIN_LABELS} to {MAX_LABELS:,}"
        )
    for label, count in counts.items():
        if count == 1:
            near = near_hint(label, [other for other in counts if other != label])
            raise InputError(
                f"{first[label]}: no other row of '{task}' has the label '{label}'{near}; "
                "a label needs two rows"
            )
    return tuple(sorted(counts))


def _rows(path: Path, tasks: Collection[str]) -> Iterable[tuple[int, Mapping[str, object]]]:
    """The rows of a file of whatever form, each with its number from 1."""
    if not path.is_file():
        raise InputError(f"no file {path}")
    export = read_export(path, tasks)
    return _table(path, tasks) if export is None else export


def _table(path: Path, tasks: Collection[str]) -> Iterator[tuple[int, Mapping[str, object]]]:
    """The rows of a table, each with its number from 1."""
    file = fingerprint(Located(path), AsGiven(text_columns=(ROW_ID,)))
    rows: Iterator[tuple[int, Mapping[str, object]]]
    if read := TYPED.get(file.format):
        try:
            table = read(path)
        except (OSError, pa.ArrowException) as error:
            raise InputError(f"{path}: cannot be read ({str(error).splitlines()[0]})") from error
        names, rows = table.column_names, enumerate(table.to_pylist(), 1)
    else:
        source = open_source([file], [ROW_ID], set())
        names, rows = list(source.names), _text_rows(path, source)
    if not any(task in names for task in tasks):
        raise InputError(
            f"{path}: no column is named after a task ({', '.join(tasks)})"
            f"{did_you_mean(next(iter(tasks)), names, before='; ')}; it has: {', '.join(names)}"
        )
    yield from rows


def _text_rows(path: Path, source: Source) -> Iterator[tuple[int, Mapping[str, object]]]:
    for numbered in read_source(source):
        for bad in numbered.chunk.bad:
            raise InputError(f"{path}:{bad.row}: {bad.reason}")
        yield from zip(numbered.chunk.rows, numbered.chunk.table.to_pylist(), strict=True)


def _row(
    where: str, values: Mapping[str, object], tasks: Mapping[str, Sequence[str]]
) -> ReviewedRow:
    labels = {}
    for task, known in tasks.items():
        label = _text(values.get(task))
        if label in ("", NOT_SURE):
            continue
        if label not in known:
            raise InputError(f"{where}: '{label}' is no label of '{task}'{near_hint(label, known)}")
        labels[task] = label
    part = _text(values.get(PART))
    if part not in ("", RANDOM, UNSURE):
        raise InputError(f"{where}: part is '{part}'; it must be '{RANDOM}', '{UNSURE}' or empty")
    weight, output = _weight(where, values), _text(values.get(OUTPUT))
    return ReviewedRow(_row_id(where, values), labels, part, weight, output)


def _text(value: object) -> str:
    return "" if value is None else str(value).strip()


def _row_id(where: str, values: Mapping[str, object]) -> int:
    text = _text(values.get(ROW_ID))
    try:
        number = float(text)  # a spreadsheet may have made 12.0 of 12
        if number < 0 or not number.is_integer():
            raise ValueError
    except ValueError:
        raise InputError(f"{where}: {ROW_ID} is '{text}'; it must be a whole number") from None
    return int(number)


def _weight(where: str, values: Mapping[str, object]) -> float | None:
    text = _text(values.get(WEIGHT))
    if not text:
        return None
    try:
        weight = float(text.replace(",", "."))
    except ValueError:
        weight = math.nan
    if not (math.isfinite(weight) and weight > 0):
        raise InputError(f"{where}: {WEIGHT} is '{text}'; it must be a number above 0")
    return weight
