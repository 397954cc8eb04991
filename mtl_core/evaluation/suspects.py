"""Find training rows whose label the other rows contradict: suspected label errors.

Each row is judged without its own label, from vectors that no label has shaped: the pooled vectors
of the backbone as published. Two judges, both leaving one out, so that no model is fitted twice:

- a linear one: least squares with a ridge on the classes as 0 and 1. Its answer to a row that was
  left out follows from the fit on all rows (Hastie, Tibshirani, Friedman 2009, section 7.10;
  Rifkin and Lippert 2007);
- the vote of the row's nearest neighbours, near-copies with the right label among them.

Their sum, through a softmax whose temperature is fitted, gives each row's held-out probabilities.
Rows are ranked by the normalised margin and listed by the rule of the confident joint (Northcutt,
Jiang, Chuang 2021, "Confident Learning").
"""

import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import torch
from numpy.typing import NDArray

from mtl_core.data.splits import LabelledTexts
from mtl_core.evaluation.calibration import fit_temperature, softmax
from mtl_core.files import write_text
from mtl_core.pulse import Pulse, no_pulse, pulsing, with_pulse

SUSPECTS = "suspects.csv"
"""Name of the file in a model's folder."""
COLUMNS = pa.schema(
    [(name, pa.string()) for name in ("task", "text", "label", "predicted")]
    + [("score", pa.float64())]
)
LISTED = 1000
"""How many rows of a task the file lists at most."""
CLASS_ROWS = 5
"""Rows of a class with fewer rows than this are not judged: too few others could speak for it."""
CONFIDENT = 0.6
"""The least probability of a listed row's predicted class. Where the vectors tell nothing of the
labels, each row left out tips the balance to another class, and its probability is just above
chance."""
NEIGHBOURS = 10
DIMENSIONS = 128
"""Neighbours are searched by the leading principal components, so many of them."""
WIDTH = 0.2
"""A neighbour's vote weighs exp((cosine - 1) / WIDTH)."""
CANDIDATES = 131_072
"""Of more rows, neighbours are searched in a sample of so many: time grows with N, not its
square."""
RIDGES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
"""Strengths tried, as shares of the mean variance of a dimension."""
BLOCK_ROWS = 2048
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Suspects:
    """One task's training rows, judged."""

    data: LabelledTexts
    predicted: NDArray[np.int64]
    """The most probable class of each row but for its own label, int64 [N]."""
    margins: NDArray[np.float32]
    """Probability of ``predicted`` less that of the row's label, float32 [N], from -1 to 1."""
    rows: NDArray[np.int64]
    """The rows that the others confidently contradict, most suspicious first, int64."""

    def counts(self) -> dict[str, int]:
        """``rows`` judged, ``suspected`` of them, and how many the file lists: ``listed``."""
        suspected = len(self.rows)
        listed = min(suspected, LISTED)
        return {"rows": len(self.data), "suspected": suspected, "listed": listed}

    @property
    def ranking(self) -> NDArray[np.int64]:
        """All rows, most suspicious first, int64 [N]."""
        order: NDArray[np.int64] = np.argsort(-self.margins, kind="stable")
        return order


def find_suspects(
    data: LabelledTexts,
    vectors: NDArray[np.floating],
    pulse: Pulse = no_pulse,
    device: torch.device = CPU,
) -> Suspects:
    """Judge each of a task's rows by the others.

    Memory beside the vectors: 128 float32 numbers a row. Time grows with N² up to
    :data:`CANDIDATES` rows, with N beyond.

    Args:
        vectors: of the texts, [N, H], shaped by no label; may be mapped from a file.
        pulse: called for every block of rows.
        device: where neighbours are searched.
    """
    # Classes without rows are left out: the temperature would be fitted to silence them.
    present, labels = np.unique(data.labels, return_inverse=True)
    classes = len(present)
    axes = _axes_of(vectors, pulse)
    evidence = _leave_one_out(vectors, axes, labels, classes, pulse)
    evidence += _votes(_directions(vectors, axes, pulse), labels, classes, pulse, device)
    temperature = with_pulse(pulse, fit_temperature, evidence, labels)
    predicted, margins, found = _judged(softmax(evidence, temperature), labels)
    return Suspects(data, present[predicted], margins, found)


def _judged(
    probabilities: NDArray[np.float64], labels: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.int64]]:
    """What :class:`Suspects` holds of each row, from held-out probabilities, float64 [N, C]."""
    rows = np.arange(len(labels))
    own = probabilities[rows, labels]
    others = probabilities.copy()
    others[rows, labels] = -1
    predicted = others.argmax(axis=1)
    margins = others[rows, predicted] - own
    counts = np.bincount(labels, minlength=probabilities.shape[1])
    # The mean probability that a class has in its own rows: what is usual for that class.
    usual = np.bincount(labels, own, minlength=len(counts)) / np.maximum(counts, 1)
    confident = (margins > 0) & (others[rows, predicted] >= np.maximum(usual[predicted], CONFIDENT))
    judged = np.minimum(counts[labels], counts[predicted]) >= CLASS_ROWS
    found = np.flatnonzero(confident & judged)
    found = found[np.argsort(-margins[found], kind="stable")]
    return predicted, margins.astype(np.float32), found


@dataclass(frozen=True)
class _Axes:
    """Mean and principal axes of N vectors."""

    mean: NDArray[np.float64]
    """float64 [H]."""
    directions: NDArray[np.float64]
    """Orthonormal columns, that of most variance first, float64 [H, H]."""
    sums: NDArray[np.float64]
    """Sum of squares along each of them, float64 [H]."""

    def along(
        self, vectors: NDArray[np.floating], pulse: Pulse
    ) -> Iterator[tuple[slice, NDArray[np.float64]]]:
        """Blocks of rows, and their coordinates along the axes, float64 [B, H]."""
        for start in pulsing(range(0, len(vectors), BLOCK_ROWS), pulse):
            block = slice(start, start + BLOCK_ROWS)
            yield block, (vectors[block].astype(np.float64) - self.mean) @ self.directions


def _axes_of(vectors: NDArray[np.floating], pulse: Pulse) -> _Axes:
    size = vectors.shape[1]
    total, moment = np.zeros(size), np.zeros((size, size))
    for start in pulsing(range(0, len(vectors), BLOCK_ROWS), pulse):
        block = vectors[start : start + BLOCK_ROWS].astype(np.float64)
        total += block.sum(axis=0)
        moment += block.T @ block
    mean = total / len(vectors)
    sums, directions = np.linalg.eigh(moment - len(vectors) * np.outer(mean, mean))
    return _Axes(mean, directions[:, ::-1], np.maximum(sums[::-1], 0))


def _leave_one_out(
    vectors: NDArray[np.floating],
    axes: _Axes,
    labels: NDArray[np.int64],
    classes: int,
    pulse: Pulse,
) -> NDArray[np.float32]:
    """The linear judge's answer to each row, fitted on all others, float32 [N, C].

    Of the strengths in :data:`RIDGES` the one with the least squared error on rows left out.
    """
    count = len(labels)
    wanted = np.eye(classes)[labels]
    shares = wanted.mean(axis=0)
    products = np.zeros((vectors.shape[1], classes))
    for block, along in axes.along(vectors, pulse):
        products += along.T @ (wanted[block] - shares)
    best, least = np.empty((count, classes), dtype=np.float32), np.inf
    for ridge in RIDGES:
        shrunk = 1 / (axes.sums + ridge * max(axes.sums.mean(), 1e-12))
        answers, error = np.empty_like(best), 0.0
        for block, along in axes.along(vectors, pulse):
            fitted = along @ (shrunk[:, None] * products) + shares
            # How far a row's own label moves its fitted value; 1 would leave the others no say.
            own = np.minimum(1 / count + (along**2) @ shrunk, 1 - 1e-6)[:, None]
            left_out = (fitted - own * wanted[block]) / (1 - own)
            error += float(((left_out - wanted[block]) ** 2).sum())
            answers[block] = left_out
        if error < least:
            best, least = answers, error
    return best


def _directions(vectors: NDArray[np.floating], axes: _Axes, pulse: Pulse) -> NDArray[np.float32]:
    """Unit vectors along the leading axes, float32 [N, D]."""
    kept = min(DIMENSIONS, vectors.shape[1])
    found = np.empty((len(vectors), kept), dtype=np.float32)
    for block, along in axes.along(vectors, pulse):
        leading = along[:, :kept]
        lengths = np.linalg.norm(leading, axis=1, keepdims=True)
        found[block] = leading / np.maximum(lengths, 1e-12)
    return found


def _votes(
    directions: NDArray[np.float32],
    labels: NDArray[np.int64],
    classes: int,
    pulse: Pulse,
    device: torch.device,
) -> NDArray[np.float32]:
    """Each row's vote by its nearest neighbours, weighted by cosine, float32 [N, C]."""
    count = len(labels)
    candidates = np.arange(count)
    if count > CANDIDATES:
        candidates = np.random.default_rng(0).choice(count, CANDIDATES, replace=False)
    place = np.full(count, -1)
    place[candidates] = np.arange(len(candidates))
    among = torch.from_numpy(directions[candidates]).T.contiguous().to(device)
    wanted = np.eye(classes, dtype=np.float32)[labels]
    votes = np.empty((count, classes), dtype=np.float32)
    most = min(NEIGHBOURS, len(candidates))
    for start in pulsing(range(0, count, BLOCK_ROWS), pulse):
        block = slice(start, start + BLOCK_ROWS)
        cosines = torch.from_numpy(directions[block]).to(device) @ among
        itself = place[block]
        there = np.flatnonzero(itself >= 0)
        cosines[there, itself[there]] = -torch.inf
        nearest, found = (each.cpu() for each in cosines.topk(most, dim=1))
        weights = np.exp((nearest.numpy() - 1) / WIDTH)
        weights /= weights.sum(axis=1, keepdims=True)
        votes[block] = (weights[:, :, None] * wanted[candidates[found.numpy()]]).sum(axis=1)
    return votes


def write_suspects(path: Path, tasks: Mapping[str, Suspects]) -> None:
    """Write the suspected rows of all tasks as csv, atomically, most suspicious first.

    Columns: ``task``, ``text``, ``label``, ``predicted`` and ``score``, the margin. Of each task
    at most :data:`LISTED` rows. Texts stand as they are in the data, as ``mtl collect`` writes
    them.
    """
    lines: list[dict[str, str | float]] = []
    for name, found in tasks.items():
        names = found.data.task.labels
        lines += [
            {
                "task": name,
                "text": found.data.texts[row],
                "label": names[found.data.labels[row]],
                "predicted": names[found.predicted[row]],
                "score": round(float(found.margins[row]), 4),
            }
            for row in found.rows[:LISTED].tolist()
        ]
    table = pa.Table.from_pylist(lines, schema=COLUMNS)
    buffer = io.BytesIO()
    pyarrow.csv.write_csv(table, buffer)
    write_text(path, buffer.getvalue().decode())
