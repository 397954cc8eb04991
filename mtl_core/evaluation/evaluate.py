"""A model's scores: metrics and calibration on each task's official split, STS-B, samples."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mtl_core.config import Calibration
from mtl_core.data.overlap import unseen_rows
from mtl_core.data.splits import LabelledTexts, LoadSplit, listed
from mtl_core.engine.quantise import CALIBRATION_TEXTS
from mtl_core.errors import DataError
from mtl_core.evaluation.answers import Answering, Answers
from mtl_core.evaluation.calibration import calibration_report, softmax
from mtl_core.evaluation.metrics import classification_metrics
from mtl_core.evaluation.zero_shot import zero_shot_classes
from mtl_core.pulse import Pulse, no_pulse, with_pulse
from mtl_core.tasks import Task

SAMPLES = 8
SAMPLE_CHARS = 300


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation finds; plain JSON values."""

    official: dict[str, dict[str, Any]]
    """By task: what ``classification_metrics`` gives, and the ``split`` it was measured on."""
    calibration: dict[str, dict[str, Any]]
    """By task: what ``calibration_report`` gives."""
    samples: dict[str, list[dict[str, Any]]]
    """By task, some predictions: ``text``, ``expected``, ``predicted``, ``score``; the worst
    mistakes first, then some right ones."""
    zero_shot: dict[str, dict[str, Any]]
    """By task: what ``classification_metrics`` gives for zero-shot labels, which are chosen by
    similarity to the labels' descriptions and without a head. Empty unless asked for."""
    stsb: dict[str, Any] | None
    """Spearman's correlation on STS-B, where the data is there."""
    computed: dict[str, str]
    """What gave the answers: ``engine`` and ``precision``."""
    suspects: Mapping[str, dict[str, int]] = field(default_factory=dict)
    """By task, how many training rows the others contradict; found by training runs only, see
    ``Suspects.counts``."""

    def as_dict(self) -> dict[str, Any]:
        """All fields as ``metrics.json`` holds them."""
        found = {"stsb": self.stsb} if self.stsb is not None else {}
        return {
            "official": self.official,
            "calibration": self.calibration,
            "samples": self.samples,
            **({"zero_shot": self.zero_shot} if self.zero_shot else {}),
            **found,
            "computed": self.computed,
            **({"suspects": dict(self.suspects)} if self.suspects else {}),
        }


def evaluate_model(
    model: Answering,
    load_split: LoadSplit,
    *,
    held_out: Mapping[str, LabelledTexts] | None = None,
    trained_on: Mapping[str, LabelledTexts] | None = None,
    zero_shot: bool = False,
    similarity: Callable[[], dict[str, Any] | None] = lambda: None,
    report: Callable[[str], None] = lambda task: None,
    pulse: Pulse = no_pulse,
) -> Evaluation:
    """Score every task of a model that names data on its official evaluation split.

    Args:
        model: gives the model's answers.
        load_split: gives a task's evaluation split.
        held_out: by task, rows held out of training, for tasks without an official split.
        trained_on: by task, the training rows. If given, metrics have ``unseen``: how many ``rows``
            share no run of eight words with training rows, and the ``accuracy`` on these.
        zero_shot: also label by similarity to the tasks' descriptions.
        similarity: gives Spearman's correlation on STS-B, None without its data.
        report: called with a task's name before it is scored, and with ``stsb`` before STS-B.
    Raises:
        DataError: no task names data, or a split is missing or malformed.
        ModelError: as :meth:`mtl_core.evaluation.answers.EngineAnswers.answer`.
    """
    computed = {"engine": model.engine, "precision": model.precision}
    found = Evaluation({}, {}, {}, {}, None, computed)
    tasks = [task for task in model.config.tasks if task.source is not None]
    if not tasks:
        raise DataError(f"{no_data(model.config.tasks)} to evaluate on")
    for task in tasks:
        report(task.name)
        split, data = _evaluation_data(task, load_split, held_out or {})
        answers = model.answer(data.texts)
        logits = answers.logits[task.name]
        trained = trained_on[task.name] if trained_on is not None else None
        found.official[task.name] = _official(data, logits, split, trained, pulse)
        _add_scores(found, data, logits, model.config.calibration_of(task.name), pulse)
        if zero_shot:
            found.zero_shot[task.name] = _zero_shot(model, data, answers)
    report("stsb")
    return replace(found, stsb=similarity())


def no_data(tasks: Sequence[Task]) -> str:
    """The tasks that name no data, such as those made of checked rows, in words."""
    names = [task.name for task in tasks if task.source is None]
    return f"task {listed(names)} names no data" if names else ""


def calibration_texts(tasks: Sequence[Task], load_split: LoadSplit) -> list[str]:
    """Texts spread over the tasks' splits, the same number of each, to calibrate int8 on.

    They are taken without their labels: a label job, too, calibrates on texts it is to label.

    Raises:
        DataError: as :func:`evaluate_model`.
    """
    texts: list[str] = []
    for task in tasks:
        if task.source is None:
            continue
        source = task.source
        split = source.evaluation_split if source.has_official_split else source.train_split
        all_texts = load_split(task, split).texts
        wanted = min(len(all_texts), max(1, CALIBRATION_TEXTS // len(tasks)))
        rows = np.linspace(0, len(all_texts) - 1, wanted).astype(int)
        texts += [all_texts[row] for row in rows]
    return texts


def _add_scores(
    found: Evaluation,
    data: LabelledTexts,
    logits: NDArray[np.float32],
    calibration: Calibration,
    pulse: Pulse,
) -> None:
    """Add a task's calibration report and samples to ``found``, from logits float32 [N, C]."""
    task = data.task.name
    found.calibration[task] = with_pulse(
        pulse, calibration_report, logits, data.labels, calibration
    )
    found.samples[task] = prediction_samples(data, softmax(logits, calibration.temperature))


def _zero_shot(model: Answering, data: LabelledTexts, answers: Answers) -> dict[str, Any]:
    descriptions = model.answer(data.task.descriptions or data.task.labels).embeddings
    nearest = zero_shot_classes(descriptions, answers.embeddings)
    return classification_metrics(data.task, data.labels, nearest)


def _official(
    data: LabelledTexts,
    logits: NDArray[np.float32],
    split: str,
    trained_on: LabelledTexts | None,
    pulse: Pulse,
) -> dict[str, Any]:
    """A task's metrics, from logits float32 [N, C]; ``unseen`` where training rows are given."""
    predicted = logits.argmax(axis=1)
    found = {**classification_metrics(data.task, data.labels, predicted), "split": split}
    if trained_on is not None:
        correct = predicted == data.labels
        unseen = unseen_rows(data.texts, trained_on.texts, pulse)
        found["unseen"] = {
            "rows": int(unseen.sum()),
            "accuracy": float(correct[unseen].mean()) if unseen.any() else None,
        }
    if data.notes:
        found["notes"] = list(data.notes)
    return found


def _evaluation_data(
    task: Task, load_split: LoadSplit, held_out: Mapping[str, LabelledTexts]
) -> tuple[str, LabelledTexts]:
    """Name and rows of a task's official split; of its held-out rows if it has no such split."""
    assert task.source is not None
    if task.source.has_official_split:
        split = task.source.evaluation_split
        return split, load_split(task, split)
    if task.name not in held_out:
        raise DataError(f"task '{task.name}' has no evaluation file; name one in its task file")
    return "held-out", held_out[task.name]


def prediction_samples(data: LabelledTexts, scores: NDArray[np.float64]) -> list[dict[str, Any]]:
    """Some predictions to look at: the most confident mistakes, then evenly drawn right ones.

    Args:
        scores: probabilities, float64 [N, C].
    """
    predicted, best = scores.argmax(axis=1), scores.max(axis=1)
    wrong = np.flatnonzero(predicted != data.labels)
    right = np.flatnonzero(predicted == data.labels)
    worst = wrong[np.argsort(-best[wrong], kind="stable")][:SAMPLES]
    some = right[np.linspace(0, len(right) - 1, min(SAMPLES, len(right))).astype(int)]
    labels = data.task.labels
    return [
        {
            "text": data.texts[row][:SAMPLE_CHARS],
            "expected": labels[data.labels[row]],
            "predicted": labels[predicted[row]],
            "score": round(float(best[row]), 4),
        }
        for row in [*worst.tolist(), *some.tolist()]
    ]
