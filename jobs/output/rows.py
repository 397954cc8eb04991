"""The rows of a finished output as a stream of batches."""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from jobs.output.manifest import Manifest
from jobs.output.where import Condition
from mtl_core.errors import InputError
from mtl_core.storage.parquet import EMBEDDING, EMBEDDING_SCALE
from mtl_core.storage.place import Place

BATCH_ROWS = 8192


@contextmanager
def opened(output: Place, name: str) -> Iterator[pq.ParquetFile]:
    """Open one of an output's Parquet files.

    Raises:
        InputError: it has gone.
    """
    with located(output, name) as path, pq.ParquetFile(path) as file:
        yield file


@contextmanager
def located(output: Place, name: str) -> Iterator[Path]:
    """A path of this machine to read one of an output's Parquet files from.

    Raises:
        InputError: it has gone.
    """
    try:
        with output.reading(name) as path:
            yield path
    except FileNotFoundError as error:
        raise InputError(f"{output.at(name)} is missing; label again into a new folder") from error


def batches(
    output: Place, manifest: Manifest, columns: Collection[str], where: Condition | None = None
) -> Iterator[pa.Table]:
    """All labelled rows, part after part; memory does not grow with the output.

    Row groups whose statistics say that no row of theirs meets the condition are not read.

    Args:
        columns: names of those wanted; one that is not there is passed over.
        where: which rows; None: all.
    Raises:
        InputError: a part has gone, or the condition does not fit the columns.
    """
    read = {*columns, *(where.columns if where else ())}
    for part in manifest.parts:
        with located(output, part.part) as path, pq.ParquetFile(path) as file:
            groups = where.row_groups(path) if where else None
            there = [name for name in file.schema_arrow.names if name in read]
            wanted = [name for name in there if name in columns]
            for batch in file.iter_batches(BATCH_ROWS, row_groups=groups, columns=there):
                table = pa.Table.from_batches([batch])
                yield where.of(table).select(wanted) if where else table


def columns_of(output: Place, manifest: Manifest) -> list[str]:
    """Names of an output's columns; none where no row was labelled."""
    if not manifest.parts:
        return []
    with opened(output, manifest.parts[0].part) as file:
        names: list[str] = file.schema_arrow.names
    return names


def condition_of(output: Place, manifest: Manifest, text: str | None) -> Condition | None:
    """A condition on an output's rows, as a user gives it; None if none is given.

    Raises:
        InputError: it cannot be read, or names a column that is not there.
    """
    if text is None:
        return None
    return Condition(text, columns_of(output, manifest))


def vectors_of(batch: pa.Table, form: str) -> NDArray[np.float32]:
    """The embeddings of a few rows, float32 [N, E], whatever form they are written in.

    They may share the memory of the batch, so do not change them.
    """
    column = batch.column(EMBEDDING).combine_chunks()
    flat = column.flatten().to_numpy(zero_copy_only=False).reshape(len(column), -1)
    if form == "binary":
        return np.unpackbits(flat, axis=1).astype(np.float32) * 2 - 1
    values: NDArray[np.float32] = flat.astype(np.float32, copy=False)
    if form == "int8":
        values *= batch.column(EMBEDDING_SCALE).to_numpy()[:, None]
    return values
