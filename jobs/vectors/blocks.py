"""The embeddings of an output as blocks of unit vectors, read by several threads."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from typing import TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from jobs.output.manifest import Manifest
from jobs.output.rows import located, vectors_of
from jobs.output.where import Condition
from mtl_core.cores import available_cores
from mtl_core.errors import InputError
from mtl_core.storage.parquet import EMBEDDING, EMBEDDING_SCALE
from mtl_core.storage.place import Place

BLOCK_ROWS = 16_384
Given = TypeVar("Given")


@dataclass(frozen=True)
class Block:
    """Some rows of an output."""

    rows: NDArray[np.int64]
    """Their numbers, counted through the parts in the manifest's order from 0, int64 [N]."""
    vectors: NDArray[np.float32]
    """Unit vectors, float32 [N, E]."""


@dataclass(frozen=True)
class Stretch:
    """A part, and the number of its first row."""

    name: str
    first: int
    rows: int


def stretches(manifest: Manifest) -> list[Stretch]:
    """An output's parts in the manifest's order."""
    firsts = accumulate((part.rows for part in manifest.parts), initial=0)
    return [Stretch(p.part, n, p.rows) for p, n in zip(manifest.parts, firsts, strict=False)]


def require_embeddings(output: Place, manifest: Manifest) -> None:
    """Raise InputError unless an output holds embeddings."""
    if manifest.embedding == "none":
        raise InputError(
            f"{output} holds no embeddings (--embedding none); label its input again with "
            "--embedding float16, or another form"
        )


def blocks_of(
    output: Place, manifest: Manifest, part: Stretch, where: Condition | None = None
) -> Iterator[Block]:
    """The embeddings of a part.

    Of row groups in which no row meets the condition, no embedding is read.

    Raises:
        InputError: the part has gone, or the condition does not fit the columns.
    """
    with located(output, part.name) as path, pq.ParquetFile(path) as file:
        first = part.first
        may = where.row_groups(path) if where else None
        for group in range(file.num_row_groups):
            if may is None or group in may:
                mask = None if where is None else _mask(file, group, where)
                yield from _blocks(file, group, first, manifest.embedding, mask)
            first += file.metadata.row_group(group).num_rows


def _mask(file: pq.ParquetFile, group: int, where: Condition) -> NDArray[np.bool_]:
    return where.mask(file.read_row_group(group, columns=sorted(where.columns), use_threads=False))


def _blocks(
    file: pq.ParquetFile, group: int, first: int, form: str, mask: NDArray[np.bool_] | None
) -> Iterator[Block]:
    if mask is not None and not mask.any():
        return
    names = set(file.schema_arrow.names) & {EMBEDDING, EMBEDDING_SCALE}
    reader = file.iter_batches(
        BLOCK_ROWS, row_groups=[group], columns=sorted(names), use_threads=False
    )
    done = 0
    for batch in reader:
        table = pa.Table.from_batches([batch])
        rows = np.arange(done, done + len(table))
        if mask is not None:
            table, rows = table.filter(pa.array(mask[rows])), rows[mask[rows]]
        done += len(batch)
        if len(table):
            yield Block(first + rows, unit(vectors_of(table, form)))


def unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Vectors at unit length, float32 [N, E]; a vector of zeros stays one."""
    lengths = np.sqrt(np.einsum("ij,ij->i", vectors, vectors))
    if np.abs(lengths - 1).max(initial=0) < 1e-6:
        return vectors
    scaled: NDArray[np.float32] = vectors / np.maximum(lengths, 1e-12)[:, None]
    return scaled


def rows_where(output: Place, manifest: Manifest, where: Condition) -> NDArray[np.bool_]:
    """Which rows of an output meet a condition, bool [rows in all parts].

    Raises:
        InputError: a part has gone, or the condition does not fit the columns.
    """
    parts = stretches(manifest)
    mask = np.zeros(sum(part.rows for part in parts), dtype=bool)

    def look(part: Stretch) -> None:
        with located(output, part.name) as path, pq.ParquetFile(path) as file:
            first, may = part.first, where.row_groups(path)
            for group in range(file.num_row_groups):
                rows = file.metadata.row_group(group).num_rows
                if may is None or group in may:
                    mask[first : first + rows] = _mask(file, group, where)
                first += rows

    for _ in by_part(look, parts):
        pass
    return mask


def by_part(work: Callable[[Stretch], Given], parts: list[Stretch]) -> Iterator[Given]:
    """What a function gives of each part, in order, a thread for each core."""
    with ThreadPoolExecutor(available_cores()) as pool:
        try:
            yield from pool.map(work, parts)
        finally:  # after an error the parts that wait are not begun
            pool.shutdown(cancel_futures=True)


class Held:
    """An output's embeddings in memory, as float32; threads read them from its making on."""

    def __init__(self, output: Place, manifest: Manifest) -> None:
        self._pool = ThreadPoolExecutor(available_cores())
        read = partial(blocks_of, output, manifest)
        parts = stretches(manifest)
        self._parts = [self._pool.submit(lambda p: list(read(p)), part) for part in parts]

    def blocks(self) -> Iterator[Block]:
        """All blocks, in the order of the rows; waits for those that are still being read.

        Raises:
            InputError: a part has gone.
        """
        for part in self._parts:
            yield from part.result()

    def close(self) -> None:
        """Begin to read no further part."""
        self._pool.shutdown(cancel_futures=True)
