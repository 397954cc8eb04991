"""An output's embeddings in memory, at unit length."""

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from jobs.output.layout import read_manifest, require_finished
from jobs.output.manifest import Manifest
from jobs.output.rows import batches, columns_of, vectors_of
from jobs.output.where import Condition
from jobs.vectors.blocks import require_embeddings, unit
from jobs.vectors.copies.ends import end_keys
from mtl_core.errors import InputError
from mtl_core.storage.parquet import EMBEDDING, EMBEDDING_SCALE, ROW_ID
from mtl_core.storage.place import Place
from mtl_core.suggest import near_hint


@dataclass(frozen=True)
class StoredVectors:
    """The embeddings of all rows of an output."""

    row_ids: NDArray[np.int64]
    """int64 [N]."""
    units: NDArray[np.float16]
    """Embeddings at unit length, float16 [N, E]: cosines are right to about 0.0005. A row whose
    embedding is zero stays zero, and has cosine 0 with every row."""
    keys: NDArray[np.uint64]
    """Equal for rows with equal embeddings, uint64 [N]."""
    ends: NDArray[np.uint64]
    """What :func:`jobs.vectors.copies.ends.end_keys` gives of the texts, uint64 [N, 2]."""


def vectors_manifest(
    output: Place, by: str | None = None, generation: int | None = None
) -> Manifest:
    """The manifest of a finished output with embeddings.

    Args:
        by: a column that it must have.
        generation: of this one alone; None: of all.
    Raises:
        InputError: it is none, has no embeddings, or no such column.
    """
    require_finished(output)
    manifest = read_manifest(output, generation)
    require_embeddings(output, manifest)
    names = columns_of(output, manifest)
    if by is not None and names and by not in names:
        raise InputError(f"{output}: no column '{by}'{near_hint(by, names)}")
    return manifest


def read_vectors(output: Place, manifest: Manifest) -> StoredVectors:
    """Read all embeddings, batch after batch: two bytes a number, and 32 a row.

    Raises:
        InputError: a part has gone.
    """
    rows = sum(part.rows for part in manifest.parts)
    ids, keys = np.empty(rows, np.int64), np.empty(rows, np.uint64)
    ends = np.zeros((rows, 2), np.uint64)
    units = np.empty((0, 0), np.float16)
    odd, at = np.zeros(0, np.uint64), 0
    text = manifest.text_column
    for batch in batches(output, manifest, {ROW_ID, EMBEDDING, EMBEDDING_SCALE, text}):
        vectors = vectors_of(batch, manifest.embedding)
        if not units.size:
            units = np.empty((rows, vectors.shape[1]), np.float16)
            odd = _odd_numbers(vectors.shape[1])
        here = slice(at, at + len(batch))
        ids[here] = batch[ROW_ID].to_numpy()
        units[here] = unit(vectors)
        keys[here] = (np.ascontiguousarray(vectors).view(np.uint32) * odd).sum(axis=1)
        if text in batch.column_names:
            ends[here] = end_keys(batch[text].to_pylist())
        at += len(batch)
    return StoredVectors(ids, units, keys, ends)


def stored_of(row_ids: NDArray[np.int64], vectors: NDArray[np.float32]) -> StoredVectors:
    """Embeddings read already: ids int64 [N], vectors float32 [N, E]; how texts end is not told."""
    keys = np.ascontiguousarray(vectors).view(np.uint32) * _odd_numbers(vectors.shape[1])
    ends = np.zeros((len(row_ids), 2), np.uint64)
    return StoredVectors(row_ids, unit(vectors).astype(np.float16), keys.sum(axis=1), ends)


def _odd_numbers(count: int) -> NDArray[np.uint64]:
    """Factors of a multiplicative hash (Dietzfelbinger et al. 1997), modulo 2**64."""
    drawn = np.random.default_rng(0).integers(0, 2**64, count, np.uint64, endpoint=False)
    return drawn | np.uint64(1)


def fetch_rows(
    output: Place, manifest: Manifest, ids: Collection[int], columns: Collection[str]
) -> dict[int, dict[str, object]]:
    """A few rows' values by ``row_id``; row groups without one of them are not read.

    Raises:
        InputError: a part has gone.
    """
    found: dict[int, dict[str, object]] = {}
    if not ids:
        return found
    where = Condition(f"{ROW_ID} in ({', '.join(map(str, sorted(ids)))})", {ROW_ID})
    for batch in batches(output, manifest, {ROW_ID, *columns}, where):
        found.update((int(str(row[ROW_ID])), row) for row in batch.to_pylist())
    return found
