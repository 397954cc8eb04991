"""The spec of a job that trains heads alone, on checked rows of an output."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jobs.label.relabel import why_encode
from jobs.output.layout import read_manifest, require_finished
from jobs.review.reviewed import ReviewedRow, read_reviewed
from jobs.roots import place_inside
from jobs.settings import Settings
from jobs.specs import TeacherModel, TrainSpec
from jobs.train.data import described
from jobs.train.request import TrainRequest, absolute
from mtl_core.errors import InputError, SettingsError
from mtl_core.model.registry import check_name, find_model
from mtl_core.storage.address import local_path, place_of
from mtl_core.storage.folder import Folder
from mtl_core.storage.place import Place
from mtl_core.training.scenario_names import HEADS

if TYPE_CHECKING:
    from mtl_core.model.stored import Rows

NEEDS = {
    "start": "--from MODEL, the model whose heads are trained",
    "output": "--output OUT, the output whose rows were checked",
    "add": "--add FILE, the checked rows",
}
"""What the scenario cannot do without, by field of the request."""


def heads_spec(request: TrainRequest, name: str, settings: Settings) -> TrainSpec:
    """The spec of a job that trains the heads of a model on checked rows; all of it is checked.

    Raises:
        SettingsError: an option is missing.
        InputError: the output or a file of checked rows cannot be used.
        ModelError: no such model, or the name cannot be given to a new one.
    """
    _check_options(request)
    check_name(name)
    entry = find_model(request.start, settings.models, settings.model_copies)
    if not isinstance(entry.home, Folder):
        place_inside(str(entry.home), settings)
    out = place_of(request.output)
    place_inside(str(out), settings)
    require_finished(out)
    reason = why_encode(read_manifest(out), entry, settings)
    if reason:
        raise InputError(f"{out}: {reason}; relabel it by '{entry.name}' first, and check that")
    tasks = entry.config()["tasks"]
    paths = [local_path(path).absolute().resolve() for path in request.add]
    rows_to_train_on(out, [str(path) for path in paths], tasks)
    return TrainSpec(
        name=name,
        output=absolute(settings.models.below(name)),
        data_dir=None,
        preset=request.preset,
        scenario=HEADS,
        settings={key: value for key, value in request.changes.items() if key == "seed"},
        backbone=entry.config()["backbone"],
        tasks=tuple(tasks),
        data=tuple(described(path) for path in paths),
        add=tuple(map(str, paths)),
        start=TeacherModel(name=_own(request.start), home=str(entry.home), sha256=entry.sha256()),
        checked=absolute(out),
        command=_command(request, name),
    )


def rows_to_train_on(
    output: Place, files: list[str], tasks: list[dict[str, Any]]
) -> "dict[str, Rows]":
    """By task, the checked rows of all files, with their embeddings from an output.

    Args:
        tasks: as a model's ``config.json`` has them.
    Raises:
        InputError: a file or the output cannot be used, or two files check the same row.
    """
    from jobs.review.checked import checked_rows

    labels = {task["name"]: tuple(task["labels"]) for task in tasks}
    reviewed: dict[int, ReviewedRow] = {}
    for path in files:
        for row in read_reviewed(Path(path), labels):
            if row.row_id in reviewed:
                raise InputError(f"{path}: row {row.row_id} is in another of the files, too")
            reviewed[row.row_id] = row
    return checked_rows(output, read_manifest(output), list(reviewed.values()), labels)


def _check_options(request: TrainRequest) -> None:
    for field, needed in NEEDS.items():
        if not getattr(request, field):
            raise SettingsError(f"--scenario {HEADS} needs {needed}")


def _own(name: str) -> str:
    return name.rstrip("/").rpartition("/")[2]  # the model's folder shows no folders of ours


def _command(request: TrainRequest, name: str) -> str:
    words = ["mtl", "train", "--scenario", HEADS, "--name", name, "--from", _own(request.start)]
    for path in request.add:
        words += ["--add", Path(path).name]
    if "seed" in request.changes:
        words += ["--seed", str(request.changes["seed"])]
    return shlex.join([*words, "--output", "OUT"])
