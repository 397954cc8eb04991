"""Collecting: a finished label job's parts as one Parquet file, checked on the way."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from jobs.output import SUCCESS, read_manifest
from mtl_core.errors import InputError, OutputError
from mtl_core.files import file_sha256, replace_file


def collect(output: Path, target: Path, *, overwrite: bool) -> int:
    """Write all rows of a finished output folder into one file, in the order of ``row_id``.

    Parts are read one at a time, so memory stays flat.

    Returns:
        rows written.
    Raises:
        InputError: the job has not finished, or a part is missing or not what its job wrote.
        OutputError: the target exists or cannot be written.
    """
    if not (output / SUCCESS).is_file():
        raise InputError(f"{output} holds no finished output; see `mtl status`")
    if target.is_dir():
        raise OutputError(f"{target} is a folder; give a file by -o")
    if target.exists() and not overwrite:
        raise OutputError(f"{target} exists; add --overwrite to replace it")
    parts = read_manifest(output)["parts"]
    paths = [output / part["part"] for part in parts] or sorted(output.glob("part-*.parquet"))
    for path, part in zip(paths, parts, strict=False):
        if not path.is_file():
            raise InputError(f"{path} is missing; label again into a new folder")
        if file_sha256(path) != part["sha256"]:
            raise InputError(f"{path} has changed since its job wrote it (checksum differs)")
    try:
        return _write(paths, target)
    except OSError as error:
        raise OutputError(f"{target} cannot be written ({error.strerror or error})") from error


def _write(paths: list[Path], target: Path) -> int:
    schema: pa.Schema = pq.read_schema(paths[0])
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.tmp")
    rows = 0
    try:
        with pq.ParquetWriter(temporary, schema, compression="zstd") as writer:
            for path in paths:
                table = pq.read_table(path, schema=schema)
                writer.write_table(table)
                rows += len(table)
        replace_file(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)
    return rows
