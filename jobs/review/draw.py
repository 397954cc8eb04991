"""Choose the rows of an output that a person should check.

Most are drawn at random, stratified by their labels: with few rows these do more for a new head
than the least sure ones, and they alone say how right the labels are. The rest are the least sure
rows, near copies left out.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from jobs.output.manifest import Manifest
from jobs.output.rows import batches, vectors_of
from jobs.output.where import Condition
from jobs.review.population import Stratum, strata_of
from jobs.review.reviewed import RANDOM, UNSURE
from mtl_core.errors import InputError
from mtl_core.evaluation.audit import allocate
from mtl_core.storage.parquet import EMBEDDING, EMBEDDING_SCALE, ROW_ID
from mtl_core.storage.place import Place

RANDOM_SHARE = 0.75
"""Part of the rows that is drawn at random."""
CANDIDATES = 20
"""The least sure rows are chosen from so many times as many."""
ALIKE = 0.9
"""Cosine from which two rows count as near copies."""


Source = Callable[[Collection[str]], Iterator[pa.Table]]
"""A function that gives the rows to draw from, with the columns wanted, as a stream."""


@dataclass(frozen=True)
class SheetRow:
    """A row to check."""

    row_id: int
    text: str
    part: str
    """``random`` or ``unsure``."""
    weight: float | None
    """How many rows of the output a random row stands for, itself included."""
    labels: Mapping[str, str | None]
    """By task, what the output says."""
    scores: Mapping[str, float]


def draw_rows(
    output: Place,
    manifest: Manifest,
    tasks: Sequence[str],
    count: int,
    seed: int,
    where: Condition | None = None,
) -> list[SheetRow]:
    """Draw rows to check, in random order.

    The output is read twice; memory grows with ``count`` alone.

    Args:
        tasks: those to check; a row is as unsure as its least sure label of these.
        count: how many rows; fewer if there are no more.
        where: draw from these rows only.
    Raises:
        InputError: a part has gone, or no row meets the condition.
    """
    generator = np.random.default_rng(seed)
    at_random = round(count * RANDOM_SHARE)
    source = partial(batches, output, manifest, where=where)
    sizes, least_sure = _scan(source, manifest, tasks, CANDIDATES * (count - at_random))
    if not sizes:
        raise InputError(f"{output}: no labelled row{' meets the condition' if where else ''}")
    if sizes.total() <= count:
        at_random = sizes.total()
    strata = sorted(sizes, key=str)
    drawn = allocate([sizes[one] for one in strata], at_random)
    ranks = {
        one: set(generator.choice(sizes[one], number, replace=False).tolist())
        for one, number in zip(strata, drawn.tolist(), strict=True)
    }
    weights = {one: sizes[one] / max(1, len(ranks[one])) for one in strata}
    random, others = _fetch(source, manifest, ranks, least_sure)
    rows = [_row(manifest, found, RANDOM, weights[found.stratum]) for found in random]
    unsure = _apart(random, others, count - len(rows))
    rows += [_row(manifest, found, UNSURE, None) for found in unsure]
    return [rows[place] for place in generator.permutation(len(rows))]


@dataclass(frozen=True)
class _Found:
    """A row fetched from the output."""

    values: Mapping[str, object]
    stratum: Stratum
    text: str
    """In lower case, spacing aside."""
    vector: NDArray[np.float32] | None
    """Its embedding at unit length, float32 [E]; None where the output has none."""
    score: float
    """Of its least sure task."""


def _scan(
    source: Source, manifest: Manifest, tasks: Sequence[str], most: int
) -> tuple[Counter[Stratum], NDArray[np.int64]]:
    """How many rows each stratum has, and the ids of the least sure rows."""
    sizes: Counter[Stratum] = Counter()
    ids, scores = np.zeros(0, np.int64), np.zeros(0, np.float32)
    known = manifest.model.tasks
    columns = {ROW_ID, *known, *(f"{task}_score" for task in known)}
    for batch in source(columns):
        sizes.update(strata_of(batch, known))
        ids = np.concatenate([ids, batch[ROW_ID].to_numpy()])
        scores = np.concatenate([scores, _least(batch, tasks)])
        if len(ids) > most:
            kept = np.argsort(scores, kind="stable")[:most]
            ids, scores = ids[kept], scores[kept]
    return sizes, ids


def _least(batch: pa.Table, tasks: Sequence[str]) -> NDArray[np.float32]:
    """The least of each row's scores, float32 [N]."""
    found: NDArray[np.float32] = np.min([batch[f"{t}_score"].to_numpy() for t in tasks], axis=0)
    return found


def _fetch(
    source: Source,
    manifest: Manifest,
    ranks: Mapping[Stratum, set[int]],
    least_sure: NDArray[np.int64],
) -> tuple[list[_Found], list[_Found]]:
    """The rows of the wanted ranks within their strata, and the least sure ones of the others."""
    known = manifest.model.tasks
    columns = {ROW_ID, manifest.text_column, EMBEDDING, EMBEDDING_SCALE, *known}
    columns |= {f"{task}_score" for task in known}
    wanted = pa.array(least_sure, pa.int64())
    seen: Counter[Stratum] = Counter()
    random, others = [], []
    for batch in source(columns):
        drawn = np.zeros(len(batch), dtype=bool)
        for place, stratum in enumerate(strata_of(batch, known)):
            drawn[place] = seen[stratum] in ranks[stratum]
            seen[stratum] += 1
        unsure = pc.is_in(batch[ROW_ID], wanted).to_numpy() & ~drawn
        random += _rows(batch.filter(pa.array(drawn)), manifest)
        others += _rows(batch.filter(pa.array(unsure)), manifest)
    return random, others


def _rows(batch: pa.Table, manifest: Manifest) -> list[_Found]:
    if not len(batch):
        return []
    tasks = list(manifest.model.tasks)
    units: list[NDArray[np.float32] | None] = [None] * len(batch)
    if EMBEDDING in batch.column_names:
        found = vectors_of(batch, manifest.embedding)
        units = list(found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-12))
    plain = batch.drop_columns([n for n in (EMBEDDING, EMBEDDING_SCALE) if n in batch.column_names])
    return [
        _Found(values, stratum, _plain(values[manifest.text_column]), unit, score)
        for values, stratum, unit, score in zip(
            plain.to_pylist(),
            strata_of(batch, tasks),
            units,
            _least(batch, tasks).tolist(),
            strict=True,
        )
    ]


def _apart(random: Sequence[_Found], others: Sequence[_Found], count: int) -> list[_Found]:
    """The least sure rows that are near copies of no row chosen before."""
    chosen: list[_Found] = []
    texts = {found.text for found in random}
    taken = [found.vector for found in random if found.vector is not None]
    for found in sorted(others, key=lambda each: each.score):
        if len(chosen) >= count:
            break
        if found.text in texts or (taken and _nearest(taken, found.vector) > ALIKE):
            continue
        texts.add(found.text)
        if found.vector is not None:
            taken.append(found.vector)
        chosen.append(found)
    return chosen


def _plain(text: object) -> str:
    return " ".join(str(text).lower().split())


def _nearest(taken: Sequence[NDArray[np.float32]], vector: NDArray[np.float32] | None) -> float:
    """The greatest cosine with one of some vectors."""
    return -1.0 if vector is None else float((np.stack(taken) @ vector).max())


def _row(manifest: Manifest, found: _Found, part: str, weight: float | None) -> SheetRow:
    tasks, values = manifest.model.tasks, found.values
    return SheetRow(
        row_id=int(str(values[ROW_ID])),
        text=str(values[manifest.text_column]),
        part=part,
        weight=weight,
        labels=dict(zip(tasks, found.stratum, strict=True)),
        scores={task: float(str(values[f"{task}_score"])) for task in tasks},
    )
