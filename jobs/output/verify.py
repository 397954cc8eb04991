"""Verifying a finished output folder against its manifest: nothing missing, nothing twice."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from jobs.output.generations import generation_of
from jobs.output.indexed import index_problems
from jobs.output.layout import (
    APPEND,
    EMPTY_PART,
    ERRORS,
    SUCCESS,
    finished,
    owner,
    read_manifest,
)
from jobs.output.manifest import ErrorRows, Manifest, Part
from mtl_core.files import file_sha256
from mtl_core.storage.parquet import ROW_ID
from mtl_core.storage.place import Place


def verify(output: Place, generation: int | None = None) -> tuple[dict[str, int], list[str]]:
    """Check parts, errors, checksums and ``row_id`` of a finished output folder.

    Memory: one byte for each input row.

    Args:
        generation: check this one alone; None: all.
    Returns:
        counts (``total``, ``labelled``, ``errors``, ``parts``), and what is wrong, a line each;
        empty when every input row is there exactly once and every file is as it was written.
    Raises:
        InputError: there is no readable manifest.
    """
    manifest = read_manifest(output, generation)
    rows, problems = manifest.rows, list[str]()
    if not finished(output):
        problems.append(f"{SUCCESS} is missing")
    if rows.labelled + rows.errors != rows.total:
        problems.append(f"{rows.labelled} labelled + {rows.errors} error rows are not {rows.total}")
    seen = np.zeros(rows.total, dtype=np.uint8)
    listed: list[tuple[str, Part | ErrorRows]] = [(part.part, part) for part in manifest.parts]
    listed += [(entry.file, entry) for entry in manifest.errors]
    for name, entry in listed:
        problems += _check_file(output, name, entry, seen, manifest.first_row_id)
    problems += _count_rows(seen, manifest.first_row_id)
    if generation is None:
        problems += _unlisted(output, manifest, {name for name, _ in listed})
        problems += index_problems(output, manifest)
    counts = rows.model_dump(include={"total", "labelled", "errors"})
    return counts | {"parts": len(manifest.parts)}, problems


def _unlisted(output: Place, manifest: Manifest, listed: set[str]) -> list[str]:
    """Parquet files that the manifest does not list.

    What an append has put there is no such file as long as the append goes on.
    """
    known = {*listed, EMPTY_PART}
    there = sorted([*output.matching("*.parquet"), *output.matching("*.parquet", ERRORS)])
    coming = manifest.last_generation + 1 if owner(output.below(APPEND)) else None
    return [
        f"{name} is not in the manifest"
        for name in there
        if name not in known and (coming is None or generation_of(name) != coming)
    ]


def _check_file(
    output: Place, name: str, entry: Part | ErrorRows, seen: np.ndarray, first: int
) -> list[str]:
    try:
        with output.reading(name) as path:
            return _check_content(path, name, entry, seen, first)
    except FileNotFoundError:
        return [f"{name} is missing"]


def _check_content(
    path: Path, name: str, entry: Part | ErrorRows, seen: np.ndarray, first: int
) -> list[str]:
    if file_sha256(path) != entry.sha256:
        return [f"{name} has changed (checksum differs)"]
    try:
        ids = pq.read_table(path, columns=[ROW_ID])[ROW_ID].to_numpy() - first
    except (pa.ArrowException, OSError) as error:
        return [f"{name} cannot be read ({error})"]
    if len(ids) != entry.rows:
        return [f"{name} holds {len(ids)} rows, the manifest says {entry.rows}"]
    outside = (ids < 0) | (ids >= len(seen))
    found, times = np.unique(ids[~outside], return_counts=True)
    seen[found] = np.minimum(seen[found] + times, 2)  # at most 2, which fits in a byte
    return [f"{name} holds {outside.sum()} row_ids outside the input"] if outside.any() else []


def _count_rows(seen: np.ndarray, first_row_id: int) -> list[str]:
    problems = []
    for wrong, word in ((seen == 0, "missing"), (seen > 1, "more than once")):
        if wrong.any():
            first = int(np.argmax(wrong)) + first_row_id
            problems.append(f"{int(wrong.sum())} rows are {word}, the first row_id {first}")
    return problems
