"""Collecting a finished label job's rows into one file, or into a folder for each label.

Every part is checked against the manifest as it is read.
"""

from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from jobs.output.folders import LabelFolders, check_folder_target
from jobs.output.formats import CollectFormat, format_of, left_out, writing
from jobs.output.layout import EMPTY_PART, read_manifest, require_finished
from jobs.output.manifest import Manifest
from jobs.output.targets import check_file_target, in_one_line
from mtl_core.errors import InputError
from mtl_core.files import file_sha256, replace_file, temporary_beside
from mtl_core.storage.parquet import ROW_ID
from mtl_core.storage.place import Place
from mtl_core.suggest import near_hint


def collect(
    output: Place,
    target: Path,
    form: CollectFormat | None = None,
    *,
    overwrite: bool,
    without: NDArray[np.int64] | None = None,
    generation: int | None = None,
) -> tuple[int, dict[str, str]]:
    """Write all rows of a finished output folder into one file, in the order of ``row_id``.

    Parts are read one at a time, so memory stays flat.

    Args:
        form: the format; None: as the name of ``target`` tells, Parquet if it has no ending.
        without: ``row_id`` of rows to leave out, int64 [M].
        generation: write this one alone; None: all.
    Returns:
        rows written, and the columns left out because the format cannot hold them, with their type.
    Raises:
        InputError: the job has not finished, or a part is missing or not what its job wrote.
        OutputError: the target exists, lies in an output, cannot be written, or its name ends in no
            known format.
    """
    require_finished(output)
    manifest = read_manifest(output, generation)
    check_file_target(target, overwrite=overwrite)
    form = form or format_of(target)
    with in_one_line(target):
        return _write(output, manifest, target, form, without)


def collect_by_label(
    output: Place,
    target: Path,
    task: str,
    *,
    overwrite: bool,
    without: NDArray[np.int64] | None = None,
    generation: int | None = None,
) -> int:
    """Write all rows into a folder for each label of a task, as ``TARGET/topic=Sports/…parquet``.

    Args:
        without: ``row_id`` of rows to leave out, int64 [M].
        generation: write this one alone; None: all.
    Returns:
        rows written.
    Raises:
        InputError: as :func:`collect`; or no such task.
        OutputError: the target exists, holds what was not written here, or cannot be written.
    """
    require_finished(output)
    manifest = read_manifest(output, generation)
    tasks = list(manifest.model.tasks)
    if task not in tasks:
        raise InputError(f"{output}: no task '{task}'{near_hint(task, tasks)}")
    check_folder_target(target, overwrite=overwrite)
    rows = 0
    with in_one_line(target), LabelFolders(target, task, manifest.job) as folders:
        for table in checked_parts(output, manifest, without):
            folders.write_table(table)
            rows += len(table)
    return rows


def checked_parts(
    output: Place, manifest: Manifest, without: NDArray[np.int64] | None = None
) -> Iterator[pa.Table]:
    """The tables of all parts, one after another, each checked against the manifest.

    Rows are left out after the check.

    Where the manifest lists no part, it is the table of the empty part, which holds the schema.
    """
    for part in manifest.parts:
        try:
            with output.reading(part.part) as path:
                if file_sha256(path) != part.sha256:
                    raise InputError(
                        f"{output.at(part.part)} has changed since its job wrote it "
                        "(checksum differs)"
                    )
                table = pq.read_table(path, partitioning=None)
        except FileNotFoundError as error:
            raise InputError(
                f"{output.at(part.part)} is missing; label again into a new folder"
            ) from error
        if without is not None:
            table = table.filter(pc.invert(pc.is_in(table[ROW_ID], pa.array(without))))
        yield table
    if not manifest.parts and output.has(EMPTY_PART):
        with output.reading(EMPTY_PART) as path:
            table = pq.read_table(path, partitioning=None)
        yield table


def _write(
    output: Place,
    manifest: Manifest,
    target: Path,
    form: CollectFormat,
    without: NDArray[np.int64] | None,
) -> tuple[int, dict[str, str]]:
    parts = checked_parts(output, manifest, without)
    first = next(parts, None)
    if first is None:
        raise InputError(f"{output} holds no part; label again into a new folder")
    unfit = left_out(first.schema, form)
    schema = pa.schema([f for f in first.schema if f.name not in unfit], first.schema.metadata)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_beside(target.absolute())
    rows = 0
    try:
        with temporary.open("xb") as stream, writing(stream, form, schema) as sink:
            for part in chain([first], parts):
                sink.write_table(part.select(schema.names))
                rows += len(part)
        replace_file(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)
    return rows, unfit
