"""Check all data of a train job when it is submitted, so that the run does not fail on it later."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jobs.input.files import assumptions
from jobs.specs import InputFile, UnlabelledFile
from jobs.train.data import columns_of, described, load_added, load_split, load_unlabelled, path_of
from mtl_core.config import TrainConfig
from mtl_core.data.draws import check_enough, sample_rows
from mtl_core.data.overlap import without_copies
from mtl_core.data.splits import LabelledTexts
from mtl_core.data.stsb import STSB_FOLDER, STSB_SPLIT
from mtl_core.errors import DataError
from mtl_core.tasks import Task, TaskSource


@dataclass(frozen=True)
class CheckedData:
    """Training data as it was found when a job was submitted."""

    files: tuple[InputFile, ...] = ()
    """All local files that the run will read."""
    notes: tuple[str, ...] = ()
    """What was assumed, left out or doubtful, a line each."""


def check_data(
    data_dir: Path | None,
    tasks: Sequence[Task],
    config: TrainConfig,
    add: Sequence[Path] = (),
    unlabelled: Sequence[UnlabelledFile] = (),
) -> CheckedData:
    """Read all local files that a run will read, so that it does not fail on them later.

    Args:
        data_dir: the data folder; None: data comes from the hub, which is not asked here.
        add: files of further rows to train on.
        unlabelled: files of texts without labels.
    Raises:
        DataError: a file is missing or cannot be used; the message says where and why.
    """
    files: dict[str, InputFile] = {}
    notes: list[str] = []
    for task in tasks:
        if task.source is not None and (task.source.files or data_dir):
            noted = _check_splits(task, task.source, data_dir, config, files)
            notes += [f"task '{task.name}': {note}" for note in noted]
    pairs = data_dir / STSB_FOLDER / f"{STSB_SPLIT}.parquet" if data_dir else None
    if pairs is not None and pairs.is_file():
        files[str(pairs.resolve())] = described(pairs)
    for path in add:
        own = described_added(path, tasks)
        files[own.path] = own
    for task in tasks:
        added = load_added(task, [files[str(path.resolve())] for path in add])
        notes += [f"task '{task.name}': {note}" for note in added.notes] if added else []
    for each in unlabelled:
        path = Path(each.path)
        if not path.is_file():
            raise DataError(f"no file {path}; --unlabelled names files of texts")
        files[each.path] = described(path)
        if not load_unlabelled(tasks[0], [UnlabelledFile(path=each.path)], list(files.values())):
            raise DataError(f"{path}: no text to train on")
    guessed = [line for file in files.values() if (line := assumptions(file))]
    return CheckedData(tuple(files.values()), (*guessed, *notes))


def _check_splits(
    task: Task,
    source: TaskSource,
    data_dir: Path | None,
    config: TrainConfig,
    files: dict[str, InputFile],
) -> list[str]:
    """Read a task's own splits as its run will; describe their files in ``files``.

    Returns:
        what was assumed, left out or doubtful.
    Raises:
        DataError: as :func:`check_data`.
    """
    found: dict[str, LabelledTexts] = {}
    for split in dict.fromkeys((source.train_split, source.evaluation_split)):
        path = path_of(task, split, data_dir)
        own = described(path, source.text_column, source.label_column)
        files[own.path] = own
        found[split] = load_split(task, split, data_dir, files)
    train = found[source.train_split]
    if source.has_official_split and not config.keep_overlap:
        train = without_copies(train, found[source.evaluation_split].texts, "evaluation")
    sampled = sample_rows(train, config.max_rows_per_task, config.seed)
    check_enough(sampled, config.held_out_fraction)
    return [note for data in {**found, source.train_split: train}.values() for note in data.notes]


def described_added(path: Path, tasks: Sequence[Task]) -> InputFile:
    """Describe a file of further rows to train on.

    Raises:
        DataError: there is no such file, it cannot be used, or no column has a task's name.
    """
    if not path.is_file():
        raise DataError(f"no file {path}; --add names files of labelled rows")
    file, names = described(path), [task.name for task in tasks]
    if not set(columns := columns_of(file)) & set(names):
        raise DataError(
            f"{path}: its labels must be in a column named after their task ({', '.join(names)}); "
            f"it has: {', '.join(columns)}"
        )
    return file
