"""A model's scores: metrics and calibration on each task's official split, STS-B, samples."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mtl_core.data.encoded import encode_texts
from mtl_core.data.overlap import unseen_rows
from mtl_core.data.splits import LabelledTexts, LoadSplit
from mtl_core.errors import DataError
from mtl_core.evaluation.calibration import calibration_report, softmax
from mtl_core.evaluation.metrics import classification_metrics
from mtl_core.evaluation.predict import predict_logits
from mtl_core.evaluation.zero_shot import zero_shot_classes
from mtl_core.model.encoder import embed
from mtl_core.model.network import MultiTaskModel
from mtl_core.model.tokenizer import Tokenizer
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
    """By task, what ``classification_metrics`` gives for labels by similarity to descriptions; no
    head takes part. Empty unless asked for."""
    stsb: dict[str, Any] | None
    """Spearman's correlation on STS-B, where the data is there."""

    def as_dict(self) -> dict[str, Any]:
        """All of it, as ``metrics.json`` holds it."""
        found = {"stsb": self.stsb} if self.stsb is not None else {}
        return {
            "official": self.official,
            "calibration": self.calibration,
            "samples": self.samples,
            **({"zero_shot": self.zero_shot} if self.zero_shot else {}),
            **found,
        }


def evaluate_model(
    model: MultiTaskModel,
    tokenizer: Tokenizer,
    load_split: LoadSplit,
    *,
    tasks: Sequence[Task] | None = None,
    held_out: Mapping[str, LabelledTexts] | None = None,
    trained_on: Mapping[str, LabelledTexts] | None = None,
    zero_shot: bool = False,
    precision: str = "auto",
    similarity: Callable[[], dict[str, Any] | None] = lambda: None,
    report: Callable[[str], None] = lambda task: None,
    pulse: Pulse = no_pulse,
) -> Evaluation:
    """Score every task of a model on its official evaluation split.

    Args:
        load_split: gives a task's evaluation split.
        tasks: which tasks; all of the model's by default.
        trained_on: by task, the training rows; metrics then have ``unseen``, the ``accuracy`` and
            number of ``rows`` that share no run of eight words with them.
        zero_shot: also label by similarity to the tasks' descriptions.
        held_out: by task, rows held out of training, for tasks without an official split.
        precision: ``auto`` (bfloat16 where the chip has it), ``bfloat16`` or ``float32``.
        similarity: gives Spearman's correlation on STS-B, None without its data.
        report: called with a task's name before it is scored.
    Raises:
        DataError: a task names no data, or its split is missing or malformed.
    """
    found = Evaluation({}, {}, {}, {}, None)
    for task in tasks if tasks is not None else model.config.tasks:
        report(task.name)
        split, data = _evaluation_data(task, load_split, held_out or {})
        encoded = encode_texts(data, tokenizer, tokenizer.max_tokens, pulse)
        logits = predict_logits(model, tokenizer, task.name, encoded, precision, pulse=pulse)
        calibration = model.config.calibration_of(task.name)
        metrics = classification_metrics(task, data.labels, logits.argmax(axis=1))
        found.official[task.name] = {**metrics, "split": split}
        if trained_on is not None:
            correct = logits.argmax(axis=1) == data.labels
            unseen = unseen_rows(data.texts, trained_on[task.name].texts, pulse)
            found.official[task.name]["unseen"] = {
                "rows": int(unseen.sum()),
                "accuracy": float(correct[unseen].mean()) if unseen.any() else None,
            }
        if data.notes:
            found.official[task.name]["notes"] = list(data.notes)
        found.calibration[task.name] = with_pulse(
            pulse, calibration_report, logits, data.labels, calibration
        )
        scores = softmax(logits, calibration.temperature)
        found.samples[task.name] = prediction_samples(data, scores)
        if zero_shot:
            embeddings = embed(model.encoder, tokenizer, encoded.ids, precision, pulse)
            nearest = zero_shot_classes(model.encoder, task, embeddings)
            found.zero_shot[task.name] = classification_metrics(task, data.labels, nearest)
    report("stsb")
    return replace(found, stsb=similarity())


def _evaluation_data(
    task: Task, load_split: LoadSplit, held_out: Mapping[str, LabelledTexts]
) -> tuple[str, LabelledTexts]:
    """The split to report on with its name, or the rows held out where a task has none."""
    if task.source is None:
        raise DataError(f"task '{task.name}' names no data to evaluate on")
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
