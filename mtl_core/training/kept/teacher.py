"""Soft labels by trained models, computed once before the first epoch (knowledge distillation).

A student learns from a teacher's probabilities beside the labels (Hinton, Vinyals and Dean 2015);
several teachers are averaged. A smaller student of one teacher also keeps the cosines of the
teacher's embeddings instead of those of its own backbone, which has lost layers.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mtl_core.data.encoded import NO_LABEL
from mtl_core.data.splits import LabelledTexts
from mtl_core.engine.base import Engine
from mtl_core.pulse import Pulse, no_pulse, with_pulse
from mtl_core.tasks import Task, demand_answers
from mtl_core.training.checkpoint import run_tag
from mtl_core.training.kept.arrays import made, new_array

SHARD_ROWS = 8192
"""Texts that a teacher labels at once."""


@dataclass(frozen=True)
class Teacher:
    """A trained model that labels the training texts."""

    name: str
    sha256: str
    tasks: tuple[Task, ...]
    load: Callable[[], Engine]
    """Loads it; called when its answers are wanted and not kept yet."""
    folder: Path
    """Its model directory."""

    def answers(self, task: Task) -> bool:
        """Whether it has a head for the task."""
        return any(own.name == task.name for own in self.tasks)


@dataclass(frozen=True)
class SoftLabels:
    """What the teachers say of a task's N rows, mapped from files."""

    probabilities: NDArray[np.float16]
    """Their mean, float16 [N, C]."""
    embeddings: NDArray[np.float16]
    """Of the first teacher, float16 [N, E]."""


def with_unlabelled(data: LabelledTexts, texts: Sequence[str]) -> LabelledTexts:
    """Rows to train on, and behind them texts that get soft labels alone."""
    more = LabelledTexts(data.task, list(texts), np.full(len(texts), NO_LABEL, dtype=np.int64))
    return data.joined(more) if texts else data


def soft_labels(
    splits: Mapping[str, LabelledTexts],
    teachers: Sequence[Teacher],
    folder: Path,
    pulse: Pulse = no_pulse,
) -> dict[str, SoftLabels]:
    """Let the teachers label each task's rows; each text is labelled once by each teacher.

    Args:
        splits: rows by task.
        folder: where answers are kept; those that an interrupted run left there are used again.
    Raises:
        ModelError: as :func:`mtl_core.tasks.demand_answers`.
    """
    answering = {teacher.name: teacher.tasks for teacher in teachers}
    demand_answers(answering, [data.task for data in splits.values()])
    found: dict[str, list[list[NDArray[np.float16]]]] = {}
    for teacher in teachers:
        files = {
            name: _files(folder, teacher, data)
            for name, data in splits.items()
            if teacher.answers(data.task)
        }
        if not all(path.is_file() for pair in files.values() for path in pair):
            engine = teacher.load()
            for name, pair in files.items():
                _write(engine, splits[name], *pair, pulse)
        for name, pair in files.items():
            found.setdefault(name, []).append([np.load(path, mmap_mode="r") for path in pair])
    return {name: SoftLabels(_mean([p for p, _ in got]), got[0][1]) for name, got in found.items()}


def _files(folder: Path, teacher: Teacher, data: LabelledTexts) -> tuple[Path, Path]:
    tag = run_tag({"of": [teacher.sha256, data.task.name, data.digest()]})
    return folder / f"teacher-{tag}-labels.npy", folder / f"teacher-{tag}-embeddings.npy"


def _write(engine: Engine, data: LabelledTexts, labels: Path, vectors: Path, pulse: Pulse) -> None:
    with made(vectors) as building, made(labels) as building_labels:
        embeddings = new_array(building, (len(data), engine.config.embedding_size))
        probabilities = new_array(building_labels, (len(data), len(data.task.labels)))
        for start in range(0, len(data), SHARD_ROWS):
            rows = slice(start, start + SHARD_ROWS)
            labelled = engine.label(data.texts[rows], lambda done: pulse())
            (answer,) = (each for each in labelled.labels if each.task.name == data.task.name)
            probabilities[rows], embeddings[rows] = answer.probabilities, labelled.embeddings
        with_pulse(pulse, embeddings.flush)
        with_pulse(pulse, probabilities.flush)


def _mean(answers: Sequence[NDArray[np.float16]]) -> NDArray[np.float16]:
    if len(answers) == 1:
        return answers[0]
    total = np.zeros(answers[0].shape, dtype=np.float32)
    for each in answers:
        total += each
    return (total / len(answers)).astype(np.float16)
