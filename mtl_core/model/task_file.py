"""A user's own tasks, from a TOML file: each adds a head, or replaces one of the same name."""

import json
import re
import tomllib
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from mtl_core.errors import SettingsError
from mtl_core.storage.parquet import RESERVED_COLUMNS
from mtl_core.tasks import DEFAULT_TASKS, Task, TaskSource

MIN_LABELS, MAX_LABELS = 2, 1000
NAME_PATTERN = re.compile(r"[a-z][a-z0-9_]{0,31}")


class TaskTable(BaseModel):
    """One table of the file: a task."""

    model_config = ConfigDict(extra="forbid")

    labels: tuple[str, ...] = Field(min_length=MIN_LABELS, max_length=MAX_LABELS)
    train: str
    evaluation: str | None = None
    text_column: str = "text"
    label_column: str = "label"
    weight: float = Field(1.0, gt=0, allow_inf_nan=False)
    frozen_weight: float | None = Field(None, gt=0, allow_inf_nan=False)
    descriptions: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _consistent(self) -> "TaskTable":
        if len(set(self.labels)) < len(self.labels):
            raise ValueError("labels: a label is there twice")
        if not all(label.strip() for label in self.labels):
            raise ValueError("labels: a label is blank")
        if self.descriptions and len(self.descriptions) != len(self.labels):
            raise ValueError("descriptions: there must be one for each label")
        return self


def read_task_file(path: Path) -> tuple[Task, ...]:
    """Read a task file: the shipped tasks that ``keep`` names (all by default), then its own tasks.

    Relative paths of data files begin at the TOML file's folder.

    Raises:
        SettingsError: the file cannot be read, or a table is no task; the message names file and
            key.
    """
    try:
        raw: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"{path}: {error.strerror or error}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: not TOML: {error}") from error
    shipped = {task.name: task for task in DEFAULT_TASKS}
    kept = raw.pop("keep", list(shipped))
    if not isinstance(kept, list):
        raise SettingsError(f"{path}: keep: give a list, as in keep = {json.dumps([str(kept)])}")
    unknown = [name for name in kept if not isinstance(name, str) or name not in shipped]
    if unknown:
        raise SettingsError(f"{path}: keep: no shipped task {unknown[0]!r}; {', '.join(shipped)}")
    tasks = {name: shipped[name] for name in kept}
    for name, table in raw.items():
        tasks[name] = _task(path, name, table)
    if not tasks:
        raise SettingsError(f"{path}: no task is left")
    return tuple(tasks.values())


def check_task_name(name: str, where: str) -> None:
    """Raise SettingsError, which begins with ``where``, unless a task can have the name."""
    if not NAME_PATTERN.fullmatch(name):
        raise SettingsError(
            f"{where}: a task's name is of a-z, 0-9 and '_', at most 32, a letter first"
        )
    if name in RESERVED_COLUMNS or name.endswith(("_score", "_typicality")):
        raise SettingsError(f"{where}: that is the name of an output column")


def _task(path: Path, name: str, table: Any) -> Task:
    check_task_name(name, f"{path}: [{name}]")
    try:
        read = TaskTable.model_validate(table)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"])) or name
        said = first["msg"]
        if first["type"] in ("too_short", "too_long"):
            said = f"there are {len(table['labels']):,}; give {MIN_LABELS} to {MAX_LABELS:,}"
        raise SettingsError(f"{path}: [{name}] {key}: {said}") from error
    folder = path.absolute().parent
    files = {"train": str(folder / read.train)}
    if read.evaluation:
        files["test"] = str(folder / read.evaluation)
    source = TaskSource(
        text_column=read.text_column,
        label_column=read.label_column,
        evaluation_split="test" if read.evaluation else "train",
        files=files,
    )
    return Task(
        name=name,
        labels=read.labels,
        source=source,
        weight=read.weight,
        frozen_weight=read.frozen_weight,
        descriptions=read.descriptions,
    )
