"""The output of a label job, in a folder or in an object store: layout, owner, manifest.

::

    OUT/part-00000-a1-3f2a9c0d.parquet   labelled rows: shard 00000, made by attempt 1 under the
                                         lease whose token begins with 3f2a9c0d
    OUT/errors/_rows-*.parquet   rows that were not labelled, with file, row and reason
    OUT/_manifest.json           what was made, of what, by what
    OUT/_README.md               what it is, its columns, how to read it
    OUT/_SUCCESS                 written last
    OUT/_index/                  written by ``mtl index``: what makes ``mtl search`` quick
    OUT/_work/                   while the job runs: the shards' input
    OUT/part-g0002-*.parquet     what was appended, generation 2; likewise in errors/
    OUT/_append/                 while rows are appended: the output of that job

Names that begin with ``_`` are passed over by readers of a Parquet folder, so that OUT itself opens
as one dataset in any of them.
"""

import json
import os
import re
from fnmatch import fnmatchcase
from typing import Any

from pydantic import ValidationError

from jobs.output.generations import generations_of, of_generation
from jobs.output.manifest import Generation, Manifest
from mtl_core.errors import InputError, OutputError, StoreError
from mtl_core.files import as_json
from mtl_core.storage.folder import Folder
from mtl_core.storage.place import Place

MANIFEST = "_manifest.json"
README = "_README.md"
SUCCESS = "_SUCCESS"
WORK = "_work"
INDEX = "_index"
APPEND = "_append"
ERRORS = "errors"
INPUT_ERRORS = "_rows-input.parquet"
SHARDS = "shards"
JOB_KEY = b"mtl.job"
"""Key in the schema's metadata of every Parquet file of an output. The value is the job's id."""
# Patterns for the names of what a process leaves if it is killed while it takes a folder, and of
# staged shards.
TAKING = ".job.json.*.tmp"
STAGED = "*shard-*.parquet*"


TOKEN_CHARS = 8
# In a job that is made anew, attempts count from 1 again, while a late worker of the old job may
# still live. The lease's token tells that worker's part from the winner's. Names that earlier
# versions gave hold no token.
OF_ATTEMPT = r"-(?P<shard>[0-9]+(\.[0-9]+)*)-a([0-9]+|all)(-[0-9a-f]{8})?\.parquet"
PART = re.compile("part" + OF_ATTEMPT)
ERROR_FILE = re.compile("_rows" + OF_ATTEMPT)
HALF_WRITTEN = re.compile(r"\.(?P<name>.+)\.[0-9a-f]+\.tmp")
EMPTY_PART = "part-empty.parquet"
"""The only part of an output where no row could be labelled. It holds the schema alone."""


def part_name(shard: str, attempt: int, token: str) -> str:
    """Name of the part that one attempt at a shard makes under its lease's token."""
    return f"part-{shard}-a{attempt}-{token[:TOKEN_CHARS]}.parquet"


def error_name(shard: str, attempt: int, token: str) -> str:
    """Name of the file with a shard's rows that an attempt could not label."""
    return f"_rows-{shard}-a{attempt}-{token[:TOKEN_CHARS]}.parquet"


def set_aside_name(shard: str) -> str:
    """Name of the file with the rows of a shard that was set aside."""
    return f"_rows-{shard}-aall.parquet"


def staged_name(file: str) -> str:
    """Name of the staged input of a shard."""
    return f"{WORK}/{SHARDS}/{file}"


OWNER = f"{WORK}/job.json"


def owner(output: Place) -> str | None:
    """The job whose output the folder holds, or None when it holds none.

    Raises:
        OutputError: its manifest cannot be read.
    """
    for name in (MANIFEST, OWNER):
        try:
            return str(json.loads(output.read_text(name))["job"])
        except FileNotFoundError:
            continue
        except StoreError:
            raise
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise OutputError(
                f"{output.at(name)} cannot be read ({error}); give another folder"
            ) from error
    return None


def finished(output: Place, job: str | None = None) -> bool:
    """Whether the folder holds the whole output of this job; with None, of any job."""
    return output.has(SUCCESS) and (job is None or owner(output) == job)


def require_finished(output: Place) -> None:
    """Raise InputError unless the folder holds a whole output."""
    if not finished(output):
        raise InputError(f"{output} holds no finished output; see `mtl status`")


def take_folder(output: Place, job: str, spec: dict[str, Any]) -> bool:
    """Make the output folder and mark it as this job's, with its spec.

    Of several jobs that take one folder at the same moment, one gets it.

    Returns:
        whether the mark is new; if so, the folder holds nothing from which the job could go on.
    Raises:
        OutputError: the output is a file, holds something else, or cannot be written.
    """
    if output.is_file():
        raise OutputError(f"{output} is a file; give a folder by -o")
    holder, new = owner(output), False
    try:
        if holder is None:
            if not _is_free(output, job):
                raise OutputError(f"{output} holds other files; give a new or empty folder by -o")
            new = output.create_text(OWNER, as_json({"job": job, "spec": spec}))
            holder = owner(output)  # another job, if that was quicker
        elif holder == job and not output.has(OWNER):
            output.write_json(OWNER, {"job": job, "spec": spec})
    except StoreError:
        raise
    except OSError as error:
        raise OutputError(f"{output} cannot be written ({error.strerror})") from error
    if holder != job:
        raise OutputError(
            f"{output} holds the output of another job ({holder}{_difference(output, spec)}); "
            "give another folder by -o, or delete that one"
        )
    if isinstance(output, Folder) and not os.access(output.path, os.W_OK):
        raise OutputError(f"{output} cannot be written (no permission)")
    return new


def _is_free(output: Place, job: str) -> bool:
    """Whether a folder without an owner is empty, or holds only what a job may have left there.

    That is what a process leaves if it is killed while it takes the folder; or what is left of this
    job's own output after somebody has deleted ``_work``.
    """
    if output.is_empty():
        return True
    work = output.below(WORK)
    parts = [name for name in output.names() if name not in (README, SUCCESS)]
    own_work = (
        # job.json is there if another process was quicker just now
        all(name == "job.json" or fnmatchcase(name, TAKING) for name in work.names())
        and set(work.folders()) <= {SHARDS}
        and all(fnmatchcase(name, STAGED) for name in output.names(f"{WORK}/{SHARDS}"))
    )
    return (
        own_work
        and set(output.folders()) <= {WORK, ERRORS, INDEX}
        and bool(parts or not output.names())
        and all(job_of(output, name) == job for name in (*parts, *output.names(ERRORS)))
    )


def mark(job: str) -> dict[str, str]:
    """The metadata that a job puts into the schema of every Parquet file it writes."""
    return {str(JOB_KEY, "utf-8"): job}


def job_of(output: Place, name: str) -> str | None:
    """The job that a Parquet file of an output names as its writer; None: it names none.

    A Parquet file without the mark of the job is never removed from its output.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with output.reading(name) as path:
            said = (pq.read_schema(path).metadata or {}).get(JOB_KEY)
    except (pa.ArrowException, OSError):
        return None
    return None if said is None else str(said, "utf-8")


def _difference(output: Place, spec: dict[str, Any]) -> str:
    """For a message: how the spec of the folder's job differs from this one; empty: not known."""
    try:
        other = _spec_of(output)
    except (OSError, ValueError, KeyError, InputError):
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


def _spec_of(output: Place) -> dict[str, Any]:
    """The spec of the job whose output the folder holds.

    Of a finished job only some fields are left, in its manifest.
    """
    if output.has(OWNER):
        return dict(json.loads(output.read_text(OWNER))["spec"])
    manifest = read_manifest(output)
    return {
        "inputs": [
            file.model_dump(mode="json", exclude={"generation"}) for file in manifest.inputs
        ],
        "text_columns": list(manifest.text_columns),
        "model": manifest.model.name,
        "embedding": manifest.embedding,
    }


def reopen_folder(output: Place) -> None:
    """Remove the files that say that the output is whole, so that a retry can go on with it."""
    output.delete(SUCCESS)
    output.delete(MANIFEST)


def release_folder(output: Place, job: str) -> None:
    """Undo :func:`take_folder` after a submit that failed; parts, if any, stay."""
    remove_work(output, job)
    if isinstance(output, Folder) and output.path.is_dir() and output.is_empty():
        output.path.rmdir()


def remove_work(output: Place, job: str) -> None:
    """Remove ``_work``, if it is marked as this job's."""
    if output.has(OWNER) and json.loads(output.read_text(OWNER))["job"] == job:
        output.delete_folder(WORK)


def read_manifest(output: Place, generation: int | None = None) -> Manifest:
    """The manifest of a finished output folder.

    Args:
        generation: of this generation alone; None: of all.
    Raises:
        InputError: there is no manifest, it cannot be read, or there is no such generation.
        StoreError: its store refuses or does not answer.
    """
    manifest = _read_manifest(output)
    if generation is None:
        return manifest
    try:
        return of_generation(manifest, generation)
    except InputError as error:
        raise InputError(f"{output}: {error}") from error


def generations_in(output: Place) -> tuple[Generation, ...]:
    """The generations of an output; none where it has no manifest yet."""
    return generations_of(read_manifest(output)) if output.has(MANIFEST) else ()


def _read_manifest(output: Place) -> Manifest:
    try:
        return Manifest.model_validate(json.loads(output.read_text(MANIFEST)))
    except FileNotFoundError as error:
        raise InputError(f"{output} holds no {MANIFEST}; its job has not finished") from error
    except StoreError:
        raise
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "all of it"
        raise InputError(
            f"{output.at(MANIFEST)} cannot be read: {where}: {first['msg']}"
        ) from error
    except (OSError, ValueError) as error:
        raise InputError(f"{output.at(MANIFEST)} cannot be read: {error}") from error
