"""Collecting: a finished label job's parts as one file, or as folders by label; checked first."""

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Literal, Protocol

import pyarrow as pa
import pyarrow.csv
import pyarrow.dataset
import pyarrow.parquet as pq

from jobs.output import SUCCESS, read_manifest
from mtl_core.errors import InputError, OutputError, StoreError
from mtl_core.files import file_sha256, replace_file
from mtl_core.near import near_hint
from mtl_core.place import Place

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
    output: Place, target: Path, form: CollectFormat | None = None, *, overwrite: bool
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
    _require_finished(output)
    if target.is_dir():
        raise OutputError(f"{target} is a folder; give a file by -o")
    if target.exists() and not overwrite:
        raise OutputError(f"{target} exists; add --overwrite to replace it")
    form = form or _format_of(target)
    try:
        return _write(output, target, form)
    except StoreError:
        raise
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


def collect_by_label(output: Place, target: Path, task: str, *, overwrite: bool) -> int:
    """Write all rows into a folder for each label of a task, as ``TARGET/topic=Sports/…parquet``.

    Returns:
        rows written.
    Raises:
        InputError: as :func:`collect`; or no such task.
        OutputError: the target exists or cannot be written.
    """
    _require_finished(output)
    tasks = list(read_manifest(output)["model"]["tasks"])
    if task not in tasks:
        raise InputError(f"{output}: no task '{task}'{near_hint(task, tasks)}")
    if target.exists() and not overwrite:
        raise OutputError(f"{target} exists; add --overwrite to replace it")
    temporary = target.with_name(f".{target.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    parts = _checked_parts(output)
    first = next(parts)
    schema = _plain(first.schema)
    by_label = pa.dataset.partitioning(pa.schema([schema.field(task)]), flavor="hive")
    rows = 0

    def batches() -> Iterator[pa.RecordBatch]:
        nonlocal rows
        for table in chain([first], parts):
            rows += len(table)
            yield from table.cast(schema).to_batches()

    try:
        pa.dataset.write_dataset(
            batches(), temporary, schema=schema, format="parquet", partitioning=by_label
        )
        if target.is_dir():
            shutil.rmtree(target)
        temporary.rename(target)
    except StoreError:
        raise
    except OSError as error:
        raise OutputError(f"{target} cannot be written ({error.strerror or error})") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return rows


def _require_finished(output: Place) -> None:
    if not output.has(SUCCESS):
        raise InputError(f"{output} holds no finished output; see `mtl status`")


def _checked_parts(output: Place) -> Iterator[pa.Table]:
    """The tables of all parts, one after another, each checked against the manifest."""
    parts = read_manifest(output)["parts"]
    for part in parts:
        try:
            with output.reading(part["part"]) as path:
                if file_sha256(path) != part["sha256"]:
                    raise InputError(
                        f"{output.at(part['part'])} has changed since its job wrote it "
                        "(checksum differs)"
                    )
                table = pq.read_table(path, partitioning=None)
        except FileNotFoundError as error:
            raise InputError(
                f"{output.at(part['part'])} is missing; label again into a new folder"
            ) from error
        yield table
    for name in [] if parts else output.matching("part-*.parquet"):
        with output.reading(name) as path:
            table = pq.read_table(path, partitioning=None)
        yield table


def _write(output: Place, target: Path, form: CollectFormat) -> tuple[int, list[str]]:
    parts = _checked_parts(output)
    first = next(parts)
    schema: pa.Schema = first.schema
    left_out = [f.name for f in schema if form == "csv" and pa.types.is_nested(f.type)]
    for name in left_out:
        schema = schema.remove(schema.get_field_index(name))
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.tmp")
    rows = 0
    try:
        with WRITERS[form](temporary, schema) as sink:
            for part in chain([first], parts):
                sink.write_table(part.select(schema.names))
                rows += len(part)
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
