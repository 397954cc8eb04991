"""Which train job made a model, said by a file in the model's folder."""

import json
from typing import Any

from jobs.specs import TrainSpec
from mtl_core.errors import JobError
from mtl_core.model.config import CONFIG
from mtl_core.storage.address import place_of
from mtl_core.storage.folder import Folder
from mtl_core.storage.place import Place

MADE_BY = "job.json"


def made_by(output: Place) -> dict[str, Any]:
    """What ``job.json`` in a model's folder says of the job that made the model.

    ``job`` is the job's id; ``files`` the names of its data files by SHA-256; ``result`` is there
    once the model is whole. Empty where the folder holds no such file: there is no model, or one
    that came from elsewhere.
    """
    try:
        return dict(json.loads(output.read_text(MADE_BY)))
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return {}


def finished_result(output: Place, job: str) -> dict[str, Any] | None:
    """The result of a job whose whole model is in the folder; None if it is not."""
    said = made_by(output)
    return said.get("result") if said.get("job") == job and output.has(CONFIG) else None


def files_of(spec: TrainSpec) -> dict[str, str]:
    """Names, without folders, of a spec's data files by SHA-256."""
    return {file.sha256: file.path.rpartition("/")[2] for file in spec.data}


def refuse_other(spec: TrainSpec, job: str, *, known: bool = False) -> None:
    """Raise JobError if the job's model would take the place of one that it did not make.

    Args:
        known: the job has made a model once. A model that does not say which job made it is taken
            for that one, since earlier versions did not write it down.
    """
    output = place_of(spec.output)
    said = made_by(output)
    if output.is_empty() or said.get("job") == job or (known and not said):
        return
    what = f"there is a model '{spec.name}' already"
    changed = sorted(files_of(spec).items() ^ said.get("files", {}).items())
    if said and changed:
        names = ", ".join(dict.fromkeys(name for _, name in changed))
        what = f"model '{spec.name}' was trained on other data ({names})"
    elif said:
        what = f"model '{spec.name}' was trained with other settings"
    away = f"rm -r {output}" if isinstance(output, Folder) else f"delete {output}"
    raise JobError(f"{what}; choose another --name, or remove it first: {away}")
