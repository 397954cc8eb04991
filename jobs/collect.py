"""Collecting: a finished label job's parts as one file, or as folders by label; checked first."""

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, Protocol

import pyarrow as pa
import pyarrow.csv
import pyarrow.dataset
import pyarrow.parquet as pq

from jobs.output import SUCCESS, read_manifest
from mtl_core.errors import InputError, OutputError
from mtl_core.files import file_sha256, replace_file
from mtl_core.near import near_hint

CollectFormat = Literal["parquet", "csv", "jsonl"]
SUFFIXES: dict[str, CollectFormat] = {
    ".parquet": "parquet",
    ".csv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
}


class Sink(Protocol):
    """Takes tables, one after another."""

    def write_table(self, table: pa.Table) -> None:
        """Append rows."""
        ...


def collect(
    output: Path, target: Path, form: CollectFormat | None = None, *, overwrite: bool
) -> tuple[int, list[str]]:
    """Write all rows of a finished output folder into one file, in the order of ``row_id``.

    Parts are read one at a time, so memory stays flat.

    Args:
        form: None to go by the name of ``target``, Parquet where that has no ending.
    Returns:
        rows written, and the columns left out because csv cannot hold lists.
    Raises:
        InputError: the job has not finished, or a part is missing or not what its job wrote.
        OutputError: the target exists, cannot be written, or its name ends in no known format.
    """
    paths = _checked_parts(output)
    if target.is_dir():
        raise OutputError(f"{target} is a folder; give a file by -o")
    if target.exists() and not overwrite:
        raise OutputError(f"{target} exists; add --overwrite to replace it")
    form = form or _format_of(target)
    try:
        return _write(paths, target, form)
    except OSError as error:
        raise OutputError(f"{target} cannot be written ({error.strerror or error})") from error


def _format_of(target: Path) -> CollectFormat:
    if not target.suffix:
        return "parquet"
    if target.suffix.lower() not in SUFFIXES:
        raise OutputError(
            f"{target}: its name ends in no known format; name it {', '.join(SUFFIXES)} "
            "or give --format"
        )
    return SUFFIXES[target.suffix.lower()]


def collect_by_label(output: Path, target: Path, task: str, *, overwrite: bool) -> int:
    """Write all rows into a folder for each label of a task, as ``TARGET/topic=Sports/…parquet``.

    Returns:
        rows written.
    Raises:
        InputError: as :func:`collect`; or no such task.
        OutputError: the target exists or cannot be written.
    """
    paths = _checked_parts(output)
    tasks = list(read_manifest(output)["model"]["tasks"])
    if task not in tasks:
        raise InputError(f"{output}: no task '{task}'{near_hint(task, tasks)}")
    if target.exists() and not overwrite:
        raise OutputError(f"{target} exists; add --overwrite to replace it")
    temporary = target.with_name(f".{target.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    schema = _plain(pq.read_schema(paths[0]))
    parts = pa.dataset.partitioning(pa.schema([schema.field(task)]), flavor="hive")
    rows: int = sum(pq.read_metadata(path).num_rows for path in paths)
    try:
        pa.dataset.write_dataset(
            (batch for path in paths for batch in pq.read_table(path).cast(schema).to_batches()),
            temporary,
            schema=schema,
            format="parquet",
            partitioning=parts,
        )
        if target.is_dir():
            shutil.rmtree(target)
        temporary.rename(target)
    except OSError as error:
        raise OutputError(f"{target} cannot be written ({error.strerror or error})") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return rows


def _checked_parts(output: Path) -> list[Path]:
    if not (output / SUCCESS).is_file():
        raise InputError(f"{output} holds no finished output; see `mtl status`")
    parts = read_manifest(output)["parts"]
    paths = [output / part["part"] for part in parts] or sorted(output.glob("part-*.parquet"))
    for path, part in zip(paths, parts, strict=False):
        if not path.is_file():
            raise InputError(f"{path} is missing; label again into a new folder")
        if file_sha256(path) != part["sha256"]:
            raise InputError(f"{path} has changed since its job wrote it (checksum differs)")
    return paths


def _write(paths: list[Path], target: Path, form: CollectFormat) -> tuple[int, list[str]]:
    schema: pa.Schema = pq.read_schema(paths[0])
    left_out = [f.name for f in schema if form == "csv" and pa.types.is_nested(f.type)]
    for name in left_out:
        schema = schema.remove(schema.get_field_index(name))
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.tmp")
    rows = 0
    try:
        with WRITERS[form](temporary, schema) as sink:
            for path in paths:
                table = pq.read_table(path, schema=schema)
                sink.write_table(table)
                rows += len(table)
        replace_file(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)
    return rows, left_out


@contextmanager
def _parquet(path: Path, schema: pa.Schema) -> Iterator[Sink]:
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        yield writer


@contextmanager
def _csv(path: Path, schema: pa.Schema) -> Iterator[Sink]:
    with pa.csv.CSVWriter(path, _plain(schema)) as writer:
        yield _Cast(writer, _plain(schema))


@contextmanager
def _jsonl(path: Path, schema: pa.Schema) -> Iterator[Sink]:
    with path.open("w", encoding="utf-8") as stream:
        yield _JsonLines(stream.write)


class _Cast:
    def __init__(self, sink: Sink, schema: pa.Schema) -> None:
        self.sink, self.schema = sink, schema

    def write_table(self, table: pa.Table) -> None:
        self.sink.write_table(table.cast(self.schema))


class _JsonLines:
    def __init__(self, write: Callable[[str], object]) -> None:
        self.write = write

    def write_table(self, table: pa.Table) -> None:
        for batch in table.to_batches(max_chunksize=1000):
            for row in batch.to_pylist():
                self.write(json.dumps(row, ensure_ascii=False, default=str) + "\n")


WRITERS = {"parquet": _parquet, "csv": _csv, "jsonl": _jsonl}


def _plain(schema: pa.Schema) -> pa.Schema:
    """The schema with labels as strings: csv and folder names know no dictionaries."""
    fields = [
        f.with_type(f.type.value_type) if pa.types.is_dictionary(f.type) else f for f in schema
    ]
    return pa.schema(fields, metadata=schema.metadata)
