"""Checked rows of an output as heads are trained on them: stored embeddings and right labels."""

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from jobs.output.manifest import Manifest
from jobs.output.rows import batches, vectors_of
from jobs.review.reviewed import ReviewedRow
from mtl_core.errors import InputError
from mtl_core.model.stored import Rows
from mtl_core.pulse import Pulse, no_pulse, pulsing
from mtl_core.storage.parquet import EMBEDDING, EMBEDDING_SCALE, ROW_ID
from mtl_core.storage.place import Place


def checked_rows(
    output: Place,
    manifest: Manifest,
    reviewed: Sequence[ReviewedRow],
    tasks: Mapping[str, Sequence[str]],
    pulse: Pulse = no_pulse,
) -> dict[str, Rows]:
    """Look up the embeddings of checked rows; by task, of those whose label was checked.

    Args:
        tasks: the labels of each task.
    Raises:
        InputError: a row is not in the output, or the output holds no embeddings.
    """
    if manifest.embedding in ("none", "binary"):
        held = {"none": "no embeddings", "binary": "the signs of embeddings only"}
        raise InputError(
            f"{output} holds {held[manifest.embedding]}; heads cannot be trained on it"
        )
    vectors = _vectors(output, manifest, {row.row_id for row in reviewed}, pulse)
    missing = [row.row_id for row in reviewed if row.row_id not in vectors]
    if missing:
        raise InputError(
            f"row {missing[0]} is not among the labelled rows of {output}"
            f" ({len(missing):,} of {len(reviewed):,} are not); was another output checked?"
        )
    found = {}
    for task, labels in tasks.items():
        rows = [row for row in reviewed if task in row.labels]
        if rows:
            found[task] = Rows(
                np.stack([vectors[row.row_id] for row in rows]),
                np.array([labels.index(row.labels[task]) for row in rows], dtype=np.int64),
            )
    return found


def _vectors(
    output: Place, manifest: Manifest, wanted: set[int], pulse: Pulse
) -> dict[int, NDArray[np.float32]]:
    """Embeddings by row, float32 [E] each."""
    ids = pa.array(sorted(wanted), pa.int64())
    found: dict[int, NDArray[np.float32]] = {}
    for batch in pulsing(batches(output, manifest, {ROW_ID, EMBEDDING, EMBEDDING_SCALE}), pulse):
        here = batch.filter(pc.is_in(batch[ROW_ID], ids))
        if len(here):
            values = vectors_of(here, manifest.embedding)
            found.update(zip(here[ROW_ID].to_pylist(), values, strict=True))
    return found
