"""From what a user asks for to the spec of a train job, every value checked."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, get_type_hints

from pydantic import ConfigDict, TypeAdapter, ValidationError

from jobs.roots import check_backbone_inside
from jobs.settings import Settings
from jobs.specs import TrainSpec
from jobs.train.teaching import find_teachers, parse_unlabelled
from mtl_core.config import DEFAULT_BACKBONE, TrainConfig, train_config
from mtl_core.errors import SettingsError, UnknownScenarioError
from mtl_core.model.backbones import check_backbone, weights_sha256
from mtl_core.model.registry import check_name
from mtl_core.storage.address import absolute, local_path
from mtl_core.suggest import did_you_mean
from mtl_core.tasks import DEFAULT_TASKS, Task, task_as_json
from mtl_core.training.scenario_names import HEADS, scenario_help

if TYPE_CHECKING:
    from jobs.train.check import CheckedData

Value = int | float | str | bool | None


@dataclass(frozen=True)
class TrainRequest:
    """What a user asks for, apart from the scenario and the model's name."""

    preset: str
    data: str | None = None
    """The data folder; None: that of the settings, else the hub."""
    backbone: str = DEFAULT_BACKBONE
    task_file: str | None = None
    changes: dict[str, Value] = field(default_factory=dict)
    """Fields of ``TrainConfig`` given by the user."""
    add: tuple[str, ...] = ()
    """Files of further rows to train on."""
    teachers: tuple[str, ...] = ()
    """Names, paths or addresses of trained models."""
    unlabelled: tuple[str, ...] = ()
    """Files of texts without labels, as ``FILE`` or ``TASK=FILE``."""
    start: str = ""
    """Name, path or address of the model whose heads are trained."""
    output: str = ""
    """The output whose rows were checked; empty: the one that the rows' sheet was drawn from."""
    only_tasks: tuple[str, ...] = ()
    """Names of the tasks whose heads are trained, also new ones; empty: all that were checked."""

    def tasks(self) -> tuple[Task, ...]:
        """The shipped tasks, or those of the task file.

        Raises:
            SettingsError: the task file cannot be used.
        """
        if self.task_file is None:
            return DEFAULT_TASKS
        from mtl_core.model.task_file import read_task_file

        return read_task_file(Path(self.task_file).expanduser())

    def data_dir(self, settings: Settings) -> Path | None:
        """The data folder; None: data comes from the hub."""
        return local_path(self.data).absolute() if self.data else settings.data_dir

    def needs_hub(self) -> bool:
        """Whether some task has no files of its own; without a data folder it needs the hub."""
        return any(task.source is not None and not task.source.files for task in self.tasks())


OWN_OPTIONS = frozenset(
    {"layers", "epochs", "seed", "max_rows_per_task", "keep_overlap", "keep_layers"}
)
"""Fields of ``TrainConfig`` that have an option of their own, which is named as they are."""
SETTABLE = {
    name: kind
    for name, kind in get_type_hints(TrainConfig).items()
    if name not in OWN_OPTIONS | {"preset", "scenario"}
}
"""The other fields, which ``--set`` changes, and their types."""


def parse_settings(given: Sequence[str]) -> dict[str, Value]:
    """Read ``NAME=VALUE`` as a user gives it.

    Raises:
        SettingsError: no setting of that name, or no value that it can have.
    """
    found: dict[str, Value] = {}
    for each in given:
        name, _, text = (part.strip() for part in each.partition("="))
        if name in OWN_OPTIONS | {"preset", "scenario"}:
            raise SettingsError(f"--set {each}: give --{name.replace('_', '-')} instead")
        if name not in SETTABLE:
            hint = did_you_mean(name, SETTABLE, behind=" ")
            raise SettingsError(
                f"--set {each}: no setting '{name}'; {hint}there are: {', '.join(SETTABLE)}"
            )
        reader = TypeAdapter(SETTABLE[name], config=ConfigDict(allow_inf_nan=False))
        try:
            found[name] = reader.validate_python(text)
        except ValidationError as error:
            reason = error.errors()[0]["msg"]
            raise SettingsError(f"--set {each}: '{text}' is no value of {name}: {reason}") from None
    return found


def checked_data(request: TrainRequest, settings: Settings) -> "CheckedData":
    """Check the request's training data; once is enough for all jobs that are made of it.

    Raises:
        SettingsError, DataError: a value, a file or a label cannot be used.
    """
    from jobs.train.check import check_data  # imported here, since it loads the readers of files

    changes = {key: value for key, value in request.changes.items() if value is not None}
    config = train_config(request.preset, "full", **changes)
    add = [_added(path) for path in request.add]
    tasks = request.tasks()
    unlabelled = parse_unlabelled(request.unlabelled, tasks)
    if unlabelled and not request.teachers:
        raise SettingsError("--unlabelled needs a --teacher, which labels its texts")
    return check_data(request.data_dir(settings), tasks, config, add, unlabelled)


def _added(path: str) -> Path:
    return local_path(path).absolute()


def train_spec(
    request: TrainRequest,
    scenario: str,
    name: str,
    settings: Settings,
    checked: "CheckedData | None" = None,
) -> TrainSpec:
    """The spec of a train job.

    Args:
        checked: the request's data, if it has been checked already; None: it is checked now.
    Raises:
        UnknownScenarioError, SettingsError, DataError, ModelError: a value cannot be used.
    """
    tasks = request.tasks()
    check_scenario(scenario, tasks)
    check_name(name)
    train_config(request.preset, scenario=scenario, **request.changes)  # checks the values
    check_backbone(request.backbone)
    check_backbone_inside(request.backbone, settings)
    backbone = Path(request.backbone).expanduser()
    data_dir = request.data_dir(settings)
    checked = checked or checked_data(request, settings)
    return TrainSpec(
        name=name,
        output=absolute(settings.models.below(name)),
        data_dir=str(data_dir) if data_dir else None,
        preset=request.preset,
        scenario=scenario,
        settings=request.changes,
        backbone=str(backbone.absolute()) if backbone.is_dir() else request.backbone,
        backbone_sha256=weights_sha256(backbone) if backbone.is_dir() else "",
        tasks=tuple(task_as_json(task) for task in tasks),
        data=checked.files,
        teachers=find_teachers(request.teachers, tasks, settings),
        unlabelled=parse_unlabelled(request.unlabelled, tasks),
        add=tuple(str(_added(path).resolve()) for path in request.add),
        command=command_of(request, scenario, name, local=data_dir is not None),
    )


def check_scenario(scenario: str, tasks: Sequence[Task]) -> None:
    """Raise UnknownScenarioError unless there is such a scenario for the tasks."""
    known = [*scenario_help(tasks), HEADS]
    if scenario not in known:
        hint = did_you_mean(scenario, known, behind=" ")
        raise UnknownScenarioError(
            f"no scenario named '{scenario}'; {hint}there are: {', '.join(known)}"
        )


def command_of(request: TrainRequest, scenario: str, name: str, *, local: bool) -> str:
    """The command for the model card, without the paths of this machine."""
    words = ["mtl", "train", "--scenario", scenario, "--name", name, "--preset", request.preset]
    for key, value in request.changes.items():
        if key in SETTABLE:
            words += ["--set", f"{key}={value}"]
            continue
        option = f"--{key.replace('_', '-')}"
        words += [option] if value is True else [option, str(value)]
    if request.backbone != DEFAULT_BACKBONE:
        folder = Path(request.backbone)
        words += ["--backbone", folder.name if folder.is_dir() else request.backbone]
    if request.task_file is not None:
        words += ["--tasks", Path(request.task_file).name]
    for path in request.add:
        words += ["--add", Path(path).name]
    if request.teachers:
        words += ["--teacher", ",".join(name.rpartition("/")[2] for name in request.teachers)]
    for given in request.unlabelled:
        task, equals, path = given.rpartition("=")
        words += ["--unlabelled", f"{task}{equals}{Path(path).name}"]
    return shlex.join([*words, *(["--data", "DIR"] if local else [])])
