"""The spec of a job that trains heads alone, on checked rows of an output."""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from jobs.label.relabel import why_encode
from jobs.output.layout import read_manifest, require_finished
from jobs.review.reviewed import ReviewedRow, labels_in, read_reviewed
from jobs.roots import place_inside
from jobs.settings import Settings
from jobs.specs import TeacherModel, TrainSpec
from jobs.train.data import described
from jobs.train.request import TrainRequest
from mtl_core.errors import InputError, SettingsError
from mtl_core.model.registry import ModelEntry, check_name, find_model
from mtl_core.model.task_file import check_task_name
from mtl_core.storage.address import absolute, local_path, place_of
from mtl_core.storage.folder import Folder
from mtl_core.storage.place import Place
from mtl_core.tasks import Task, task_as_json, task_from_json
from mtl_core.training.scenario_names import HEADS

if TYPE_CHECKING:
    from mtl_core.model.stored import Rows

NEEDS = {
    "start": "--from MODEL, the model whose heads are trained",
    "add": "--add FILE, the checked rows",
}
"""What the scenario cannot do without, by field of the request."""


def heads_spec(request: TrainRequest, name: str, settings: Settings) -> TrainSpec:
    """The spec of a job that trains the heads of a model on checked rows; all of it is checked.

    Raises:
        SettingsError: an option is missing, or a new task cannot have its name.
        InputError: the output or a file of checked rows cannot be used.
        ModelError: no such model, or the name cannot be given to a new one.
    """
    from jobs.review.checked import checked_rows  # loads what reads rows

    for field, needed in NEEDS.items():
        if not getattr(request, field):
            raise SettingsError(f"--scenario {HEADS} needs {needed}")
    check_name(name)
    entry = find_model(request.start, settings.models, settings.model_copies)
    if not isinstance(entry.home, Folder):
        place_inside(str(entry.home), settings)
    paths = [local_path(path).absolute().resolve() for path in request.add]
    tasks = _tasks(entry, paths, request.only_tasks)
    labels = labels_to_train(tasks, request.only_tasks)
    reviewed = _read_all(paths, labels)
    out = place_of(request.output or _named(reviewed))
    place_inside(str(out), settings)
    require_finished(out)
    reason = why_encode(read_manifest(out), entry, settings)
    if reason:
        raise InputError(f"{out}: {reason}; relabel it by '{entry.name}' first, and check that")
    checked_rows(out, read_manifest(out), reviewed, labels)
    return TrainSpec(
        name=name,
        output=absolute(settings.models.below(name)),
        data_dir=None,
        preset=request.preset,
        scenario=HEADS,
        settings={key: value for key, value in request.changes.items() if key == "seed"},
        backbone=entry.config()["backbone"],
        tasks=tuple(map(task_as_json, tasks)),
        data=tuple(described(path) for path in paths),
        add=tuple(map(str, paths)),
        start=TeacherModel(name=_own(request.start), home=str(entry.home), sha256=entry.sha256()),
        checked=absolute(out),
        only_tasks=request.only_tasks,
        command=_command(request, name),
    )


def _tasks(entry: ModelEntry, paths: Sequence[Path], wanted: Sequence[str]) -> list[Task]:
    """The tasks of the new model: those of the one before, and those wanted that it has not.

    A new task's labels are those in the column of its name.
    """
    tasks = [task_from_json(task) for task in entry.config()["tasks"]]
    for name in wanted:
        if name not in [task.name for task in tasks]:
            check_task_name(name, f"--task {name}")
            tasks.append(Task(name, labels_in(paths, name)))
    return tasks


def labels_to_train(tasks: Sequence[Task], only: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """The labels of the tasks whose heads are trained.

    Args:
        only: names of these tasks; empty: all.
    """
    return {task.name: task.labels for task in tasks if not only or task.name in only}


def rows_to_train_on(
    output: Place, files: Sequence[Path], labels: Mapping[str, Sequence[str]]
) -> "dict[str, Rows]":
    """By task, the checked rows of all files, with their embeddings from an output.

    Args:
        labels: of each task to train.
    Raises:
        InputError: a file or the output cannot be used, or two files check the same row.
    """
    from jobs.review.checked import checked_rows

    return checked_rows(output, read_manifest(output), _read_all(files, labels), labels)


def _read_all(files: Sequence[Path], labels: Mapping[str, Sequence[str]]) -> list[ReviewedRow]:
    reviewed: dict[int, ReviewedRow] = {}
    for path in files:
        for row in read_reviewed(path, labels):
            if row.row_id in reviewed:
                raise InputError(f"{path}: row {row.row_id} is in another of the files, too")
            reviewed[row.row_id] = row
    return list(reviewed.values())


def _named(reviewed: Sequence[ReviewedRow]) -> str:
    """The output that the rows' sheet was drawn from."""
    named = sorted({row.output for row in reviewed})
    if len(named) > 1:
        shown = ", ".join(each or "(none)" for each in named)
        raise InputError(f"the checked rows are of several outputs: {shown}; train on one of them")
    if not named[0]:
        raise SettingsError(
            f"--scenario {HEADS} needs --output OUT, the output whose rows were checked; "
            "their file names none"
        )
    return named[0]


def _own(name: str) -> str:
    return name.rstrip("/").rpartition("/")[2]  # the model's folder shows no folders of ours


def _command(request: TrainRequest, name: str) -> str:
    words = ["mtl", "train", "--scenario", HEADS, "--name", name, "--from", _own(request.start)]
    for path in request.add:
        words += ["--add", Path(path).name]
    if "seed" in request.changes:
        words += ["--seed", str(request.changes["seed"])]
    for task in request.only_tasks:
        words += ["--task", task]
    return shlex.join([*words, "--output", "OUT"])
