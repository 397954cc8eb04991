"""Fit a finished model's statistics of typicality, and measure them on the official splits.

Class means and covariance come from rows trained on; the distances that a text is compared with
come from rows held out, which the model has not been fitted to.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mtl_core.config import UNTYPICAL_BELOW
from mtl_core.data.draws import sample_rows
from mtl_core.data.encoded import NO_LABEL, EncodedTexts
from mtl_core.data.splits import LabelledTexts, LoadSplit
from mtl_core.model.encoder import embed, project
from mtl_core.model.stored import HELD_OUT_SHARE, Rows, StoredRows, rows_to_store
from mtl_core.model.typicality import Typicality
from mtl_core.pulse import Pulse, with_pulse
from mtl_core.tasks import Task
from mtl_core.training.loop import TrainingLoop

FIT_ROWS = 8000
"""Rows of a task, at most, that means and covariance are fitted on; more change no figure that was
measured (docs/training.md)."""
HELD_OUT_ROWS = 20_000
"""Rows of a task, at most, whose distances are kept: they tell shares down to 0.00005."""
OFFICIAL_ROWS = 2000
"""Rows of an official split, at most, that typicality is measured on."""
LEAST_VARIANCE = 1e-6
"""Added to each variance, so that rows that are all alike have an inverse, too. An embedding is of
length 1: the mean of its E variances is about 1/E."""
NO_DISTANCES: NDArray[np.float32] = np.zeros(0, dtype=np.float32)


@dataclass(frozen=True)
class FittedTypicality:
    """The statistics of a run's tasks, and what they give on the official splits."""

    tasks: dict[str, Typicality]
    stored: dict[str, StoredRows]
    """Some of the rows that they were fitted on, to keep in the model's folder."""
    facts: dict[str, dict[str, Any]]
    """By task, for ``metrics.json``: ``rows`` and ``held_out``, how many rows were used; and where
    the task has an official split, ``official``: how many ``rows`` of it were looked at, and the
    share of them ``below`` UNTYPICAL_BELOW (about 0.05 where they are like the rows held out); and
    ``others``: for each other such task, the share of its rows ``below``, and ``auroc``, how well
    typicality tells them from the task's own."""


def fit_statistics(
    embeddings: NDArray[np.float32], labels: NDArray[np.int64], held_out: NDArray[np.float32]
) -> Typicality:
    """One task's statistics.

    The covariance is shrunk as Ledoit and Wolf (2004) have it: it has an inverse with fewer rows
    than numbers, too.

    Args:
        embeddings: of rows trained on, float32 [N, E]; at least one.
        labels: their classes, int64 [N]; a class may have one row or none.
        held_out: embeddings of rows held out, float32 [M, E].
    """
    from sklearn.covariance import ledoit_wolf

    rows = embeddings.astype(np.float64)
    classes, places = np.unique(labels, return_inverse=True)
    means = np.stack([rows[places == index].mean(axis=0) for index in range(len(classes))])
    inner = rows - means[places]
    size = rows.shape[1]
    covariance = ledoit_wolf(inner, assume_centered=True)[0] if len(rows) > 1 else 0
    precision = np.linalg.inv(covariance + LEAST_VARIANCE * np.eye(size))
    whitening = np.linalg.cholesky(precision).astype(np.float32)
    fitted = Typicality((means @ whitening).astype(np.float32), whitening, NO_DISTANCES)
    return replace(fitted, distances=np.sort(fitted.distance(held_out)))


def fit_typicality(loop: TrainingLoop, load_split: LoadSplit, pulse: Pulse) -> FittedTypicality:
    """Fit the statistics of every task of a finished run, and measure them.

    Raises:
        DataError: as ``load_split``.
    """
    statistics: dict[str, Typicality] = {}
    stored: dict[str, StoredRows] = {}
    facts: dict[str, dict[str, Any]] = {}
    for name, training in loop.training.items():
        labels = training.data.labels
        labelled = labels[labels != NO_LABEL]  # the others stand behind them
        rows = balanced_rows(labelled, FIT_ROWS, loop.config.seed)
        kept = _some(len(loop.held_out[name].ids), HELD_OUT_ROWS, loop.config.seed)
        fitted = Rows(_embeddings(loop, training, rows, pulse), labels[rows])
        held_out = loop.held_out[name]
        apart = Rows(_embeddings(loop, held_out, kept, pulse), held_out.data.labels[kept])
        statistics[name] = with_pulse(pulse, fit_statistics, *fitted, apart.embeddings)
        stored[name] = some_to_store(fitted, apart, len(loop.training), loop.config.seed)
        facts[name] = {"rows": len(rows), "held_out": len(kept)}
    official = {
        task.name: _embed(loop, sample_rows(data, OFFICIAL_ROWS, loop.config.seed).texts, pulse)
        for task, data in _official_splits(loop.model.config.tasks, load_split)
    }
    for name, task_facts in facts.items():
        task_facts |= measured(statistics[name], name, official)
    return FittedTypicality(statistics, stored, facts)


def some_to_store(fitted: Rows, held_out: Rows, tasks: int, seed: int) -> StoredRows:
    """Draw as many of a task's rows as its model's folder has room for.

    Args:
        fitted: rows trained on.
        held_out: rows held out of training.
        tasks: how many tasks the model has.
    """
    room = rows_to_store(tasks, fitted.embeddings.shape[1])
    apart = _some(len(held_out.labels), room // HELD_OUT_SHARE, seed)
    trained = balanced_rows(fitted.labels, room - len(apart), seed)
    return StoredRows(
        np.concatenate([fitted.embeddings[trained], held_out.embeddings[apart]]).astype(np.float16),
        np.concatenate([fitted.labels[trained], held_out.labels[apart]]).astype(np.uint16),
        np.repeat([0, 1], [len(trained), len(apart)]).astype(np.uint8),
    )


def measured(
    statistics: Typicality, task: str, official: Mapping[str, NDArray[np.float32]]
) -> dict[str, Any]:
    """What a task's statistics give on official splits, as :class:`FittedTypicality` says.

    Args:
        official: by task, embeddings of rows of its official split, float32 [N, E].
    """
    from sklearn.metrics import roc_auc_score

    if task not in official:
        return {}
    found = {name: statistics.typicality(rows) for name, rows in official.items()}
    own = found.pop(task)
    return {
        "official": {"rows": len(own), "below": _share_below(own)},
        "others": {
            name: {
                "rows": len(other),
                "below": _share_below(other),
                "auroc": float(
                    roc_auc_score(
                        np.repeat([0, 1], [len(own), len(other)]), -np.concatenate([own, other])
                    )
                ),
            }
            for name, other in found.items()
        },
    }


def _share_below(values: NDArray[np.float32]) -> float:
    return float((values < UNTYPICAL_BELOW).mean())


def balanced_rows(labels: NDArray[np.int64], most: int, seed: int) -> NDArray[np.int64]:
    """Rows drawn so that no class has more than its part of ``most``, ascending, int64 [N].

    Args:
        labels: classes, int64; of each that is there, at least one row is drawn.
    """
    generator = np.random.default_rng(seed)
    classes = np.unique(labels)
    each = max(1, most // len(classes))
    drawn = [generator.permutation(np.flatnonzero(labels == one))[:each] for one in classes]
    return np.sort(np.concatenate(drawn))


def _some(rows: int, most: int, seed: int) -> NDArray[np.int64]:
    drawn = np.random.default_rng(seed).permutation(rows)[:most]
    return np.sort(drawn)


def _official_splits(
    tasks: Sequence[Task], load_split: LoadSplit
) -> Iterator[tuple[Task, LabelledTexts]]:
    for task in tasks:
        if task.source is not None and task.source.has_official_split:
            yield task, load_split(task, task.source.evaluation_split)


def _embeddings(
    loop: TrainingLoop, encoded: EncodedTexts, rows: NDArray[np.int64], pulse: Pulse
) -> NDArray[np.float32]:
    """Embeddings of some of a part's rows, float32 [N, E], as labelling gives them.

    Kept pooled vectors are used while the backbone is as published, but not for rows that training
    cuts shorter than labelling does.
    """
    texts = [encoded.data.texts[row] for row in rows]
    if not loop.from_pooled or encoded.pooled is None:
        return _embed(loop, texts, pulse)
    vectors = project(loop.model.encoder, encoded.pooled[rows].astype(np.float32))
    cut = np.flatnonzero(encoded.lengths[rows] >= loop.config.max_tokens)
    if len(cut):
        vectors[cut] = _embed(loop, [texts[row] for row in cut], pulse)
    return vectors


def _embed(loop: TrainingLoop, texts: Sequence[str], pulse: Pulse) -> NDArray[np.float32]:
    model = loop.model
    ids = model.tokenizer(texts)
    return embed(model.encoder, model.tokenizer, ids, loop.config.precision, pulse)
