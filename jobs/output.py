"""The output folder of a label job: its layout, whose it is, and what is in the manifest.

::

    OUT/part-00000-a1.parquet    labelled rows: shard 00000, made by attempt 1
    OUT/errors/_rows-*.parquet   rows that were not labelled, with file, row and reason
    OUT/_manifest.json           what was made, of what, by what
    OUT/_README.md               what it is, its columns, how to read it
    OUT/_SUCCESS                 written last
    OUT/_work/                   while the job runs: the shards' input

Names that begin with ``_`` are passed over by readers of a Parquet folder, so that OUT itself opens
as one dataset in any of them.
"""

import json
import os
import shutil
from pathlib import Path
from typing import Any

from mtl_core.errors import InputError, OutputError
from mtl_core.files import write_json

MANIFEST = "_manifest.json"
README = "_README.md"
SUCCESS = "_SUCCESS"
WORK = "_work"
ERRORS = "errors"
INPUT_ERRORS = "_rows-input.parquet"


def part_name(shard: str, attempt: int) -> str:
    """Name of the part that one attempt at a shard makes."""
    return f"part-{shard}-a{attempt}.parquet"


def error_name(shard: str, attempt: int | str) -> str:
    """Name of the file with a shard's rows that could not be labelled."""
    return f"_rows-{shard}-a{attempt}.parquet"


def staged_path(output: Path, file: str) -> Path:
    """Where the input of a shard is staged."""
    return output / WORK / "shards" / file


def owner(output: Path) -> str | None:
    """The job whose output the folder holds, or None when it holds none.

    Raises:
        OutputError: its manifest cannot be read.
    """
    for path in (output / MANIFEST, output / WORK / "job.json"):
        if path.is_file():
            try:
                return str(json.loads(path.read_text(encoding="utf-8"))["job"])
            except (OSError, ValueError, KeyError, TypeError) as error:
                raise OutputError(
                    f"{path} cannot be read ({error}); give another folder"
                ) from error
    return None


def finished(output: Path, job: str) -> bool:
    """Whether the folder holds the whole output of this job."""
    return (output / SUCCESS).is_file() and owner(output) == job


def take_folder(output: Path, job: str, spec: dict[str, Any]) -> None:
    """Make the output folder and mark it as this job's, with its spec.

    Raises:
        OutputError: it is a file, holds something else, or cannot be written.
    """
    if output.exists() and not output.is_dir():
        raise OutputError(f"{output} is a file; give a folder by -o")
    holder = owner(output)
    if holder is not None and holder != job:
        raise OutputError(
            f"{output} holds the output of another job ({holder}{_difference(output, spec)}); "
            "give another folder by -o, or delete that one"
        )
    try:
        if holder is None and output.is_dir() and any(output.iterdir()):
            raise OutputError(f"{output} holds other files; give a new or empty folder by -o")
        write_json(output / WORK / "job.json", {"job": job, "spec": spec})
    except OSError as error:
        raise OutputError(f"{output} cannot be written ({error.strerror})") from error
    if not os.access(output, os.W_OK):
        raise OutputError(f"{output} cannot be written (no permission)")


def _difference(output: Path, spec: dict[str, Any]) -> str:
    """What differs between the spec of another job and this one, for the message."""
    try:
        other = _spec_of(output)
    except (OSError, ValueError, KeyError):
        return ""
    names = [name for name in spec if name in other and spec[name] != other[name]]
    if names == ["inputs"] and len(spec["inputs"]) == len(other["inputs"]):
        changed = [
            new["path"]
            for new, old in zip(spec["inputs"], other["inputs"], strict=True)
            if new != old
        ]
        return f", begun with other content of {', '.join(changed)}"
    return f", begun with other {', '.join(names)}" if names else ""


def _spec_of(output: Path) -> dict[str, Any]:
    """The spec of the job whose output the folder holds; of a finished one what is left of it."""
    unfinished = output / WORK / "job.json"
    if unfinished.is_file():
        return dict(json.loads(unfinished.read_text(encoding="utf-8"))["spec"])
    manifest = json.loads((output / MANIFEST).read_text(encoding="utf-8"))
    return {
        "inputs": [{**file, "version": 1} for file in manifest["inputs"]],
        "text_columns": manifest["text_columns"],
        "model": manifest["model"]["name"],
        "embedding": manifest["embedding"],
    }


def reopen_folder(output: Path) -> None:
    """Take back the word that the output is whole; for a retry."""
    (output / SUCCESS).unlink(missing_ok=True)
    (output / MANIFEST).unlink(missing_ok=True)


def release_folder(output: Path) -> None:
    """Undo :func:`take_folder` after a submit that failed; parts, if any, stay."""
    shutil.rmtree(output / WORK, ignore_errors=True)
    if output.is_dir() and not any(output.iterdir()):
        output.rmdir()


def read_manifest(output: Path) -> dict[str, Any]:
    """The manifest of a finished output folder.

    Raises:
        InputError: none there, or not readable.
    """
    try:
        return dict(json.loads((output / MANIFEST).read_text(encoding="utf-8")))
    except FileNotFoundError as error:
        raise InputError(f"{output} holds no {MANIFEST}; its job has not finished") from error
    except (OSError, ValueError) as error:
        raise InputError(f"{output / MANIFEST} cannot be read: {error}") from error
