"""The rows of a finished output as a stream of batches."""

from collections.abc import Collection, Iterator
from contextlib import contextmanager

import pyarrow as pa
import pyarrow.parquet as pq

from jobs.output.manifest import Manifest
from mtl_core.errors import InputError
from mtl_core.storage.place import Place

BATCH_ROWS = 8192


@contextmanager
def opened(output: Place, name: str) -> Iterator[pq.ParquetFile]:
    """Open one of an output's Parquet files.

    Raises:
        InputError: it has gone.
    """
    try:
        with output.reading(name) as path, pq.ParquetFile(path) as file:
            yield file
    except FileNotFoundError as error:
        raise InputError(f"{output.at(name)} is missing; label again into a new folder") from error


def batches(output: Place, manifest: Manifest, columns: Collection[str]) -> Iterator[pa.Table]:
    """All labelled rows, part after part; memory does not grow with the output.

    Args:
        columns: names of those wanted; one that is not there is passed over.
    Raises:
        InputError: a part has gone.
    """
    for part in manifest.parts:
        with opened(output, part.part) as file:
            there = [name for name in file.schema_arrow.names if name in columns]
            for batch in file.iter_batches(BATCH_ROWS, columns=there):
                yield pa.Table.from_batches([batch])
