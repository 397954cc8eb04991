"""A model with new heads on the encoder of another: takes seconds and no training data."""

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mtl_core.config import Calibration, ModelConfig
from mtl_core.errors import DataError
from mtl_core.evaluation.calibration import fit_calibration, softmax
from mtl_core.files import file_sha256, write_json, write_text
from mtl_core.model.config import WEIGHTS, read_model_config
from mtl_core.model.folder import read_tensors, write_model
from mtl_core.model.identity import encoder_sha256
from mtl_core.model.stored import Rows, StoredRows, read_stored, write_stored
from mtl_core.model.typicality import Typicality, read_typicality, write_typicality
from mtl_core.pulse import Pulse, no_pulse
from mtl_core.tasks import Task
from mtl_core.training.card import model_card
from mtl_core.training.heads import FOLDS, SIGNIFICANCE, FittedHead, Head, fit_head
from mtl_core.training.software import software_versions
from mtl_core.training.typicality import fit_statistics

CALIBRATED_FROM = 50
"""With fewer checked rows a task keeps its temperature and thresholds."""


@dataclass(frozen=True)
class NewHeads:
    """A run as it is asked for; :meth:`run` makes the model directory."""

    before: Path
    """Folder of the model whose encoder, and whose heads at first, the new one has."""
    tasks: tuple[Task, ...]
    """Those of the new model: all of the model before, and perhaps new ones, which were checked."""
    checked: Mapping[str, Rows]
    """By task, checked rows; a task without any keeps its head."""
    output: Path
    name: str
    facts: Mapping[str, Any]
    """What ``config.json`` and the card say of the run, such as its ``command``."""
    seed: int = 0
    pulse: Pulse = no_pulse

    def run(self) -> str:
        """Fit the heads, calibration and typicality, and write the model.

        Returns:
            the SHA-256 of its weights.
        Raises:
            DataError: the rows of a new task do not tell its labels apart.
            ModelError: the model's folder is damaged.
        """
        started = time.monotonic()
        before, tensors = read_model_config(self.before), read_tensors(self.before / WEIGHTS)
        config = replace(before, tasks=self.tasks)
        encoder = encoder_sha256(self.before)
        stored = read_stored(self.before, encoder)
        typicality = read_typicality(self.before, file_sha256(self.before / WEIGHTS))
        calibration, found = dict(config.calibration), {}
        for task in (task for task in config.tasks if task.name in self.checked):
            rows, own = self.checked[task.name], stored.get(task.name)
            new = task.name not in [each.name for each in before.tasks]
            head = no_head(task, config) if new else head_of(tensors, task)
            trained = own.part(held_out=False) if own is not None else None
            # a new head has nothing to lose: any gain will do
            demanded = 0.0 if new else SIGNIFICANCE
            fitted = fit_head(head, rows, trained, self.seed, self.pulse, demanded)
            if new:
                _demand_head(task, fitted)
                tensors[f"logit_scales.{task.name}"] = torch.tensor(config.logit_scale)
            _put(tensors, task, fitted.head)
            if rows.number >= CALIBRATED_FROM:
                calibration[task.name] = fit_calibration(
                    fitted.left_out.astype(np.float32), rows.labels
                )
            typicality[task.name] = _typicality(rows, own, self.seed)
            temperatures = [
                each.get(task.name, Calibration()).temperature
                for each in (config.calibration, calibration)
            ]
            found[task.name] = {**_told(head, fitted, rows, *temperatures), "new": new}
        config = replace(config, calibration=calibration)
        return self._save(config, tensors, stored, typicality, found, started)

    def _save(
        self,
        config: ModelConfig,
        tensors: Mapping[str, torch.Tensor],
        stored: Mapping[str, StoredRows],
        typicality: Mapping[str, Typicality],
        found: Mapping[str, Any],
        started: float,
    ) -> str:
        training = {**self.facts, "notes": [_note(task, f) for task, f in found.items()]}
        write_model(self.output, config, tensors, training)
        sha256 = file_sha256(self.output / WEIGHTS)
        write_typicality(self.output, typicality, sha256)
        if stored:
            write_stored(self.output, stored, encoder_sha256(self.output))
        facts = {
            "official": {},
            "calibration": {},
            "checked": found,
            **_similarity(self.before),
            "seconds": round(time.monotonic() - started, 1),
            "trained_parameters": sum(
                tensors[f"heads.{task}.{part}"].numel() for task in found for part in PARTS
            ),
            "software": software_versions(),
        }
        write_json(self.output / "metrics.json", facts)
        write_json(self.output / "history.json", [])
        write_text(self.output / "README.md", model_card(self.name, config, training, facts))
        return sha256


PARTS = ("weight", "bias")


def head_of(tensors: Mapping[str, torch.Tensor], task: Task) -> Head:
    """A task's head among a model's weights by name."""
    scale = float(tensors[f"logit_scales.{task.name}"])
    weight, bias = (tensors[f"heads.{task.name}.{part}"].double().numpy() for part in PARTS)
    return Head(weight * scale, bias * scale)


def no_head(task: Task, config: ModelConfig) -> Head:
    """A head that finds all labels equally likely, from which a new task's head is fitted."""
    labels = len(task.labels)
    return Head(np.zeros((labels, config.embedding_size)), np.zeros(labels))


def _demand_head(task: Task, fitted: FittedHead) -> None:
    if not np.isfinite(fitted.strength):
        raise DataError(
            f"{len(fitted.left_out):,} checked rows do not tell the labels of '{task.name}' apart; "
            "check more rows"
        )


def _put(tensors: dict[str, torch.Tensor], task: Task, head: Head) -> None:
    scale = float(tensors[f"logit_scales.{task.name}"])
    for part, values in zip(PARTS, (head.weight, head.bias), strict=True):
        tensors[f"heads.{task.name}.{part}"] = torch.from_numpy(values / scale).float()


def _typicality(rows: Rows, stored: StoredRows | None, seed: int) -> Typicality:
    """Statistics of the stored and the checked rows.

    The distances are those of stored rows that were held out, and of each checked row to statistics
    without it and its fold.
    """
    trained = stored.part(held_out=False) if stored is not None else None
    folds = np.random.default_rng(seed).permutation(rows.number) % FOLDS
    distances = []
    for fold in np.unique(folds):
        left = rows.of(folds != fold)
        kept = left if trained is None else trained.joined(left)
        if kept.number:
            apart = rows.embeddings[folds == fold]
            distances.append(fit_statistics(*kept, apart).distances)
    none: NDArray[np.float32] = rows.embeddings[:0]
    apart = stored.part(held_out=True).embeddings if stored is not None else none
    fitted = fit_statistics(*(rows if trained is None else trained.joined(rows)), apart)
    return replace(fitted, distances=np.sort(np.concatenate([fitted.distances, *distances])))


def _told(
    head: Head, fitted: FittedHead, rows: Rows, before: float, after: float
) -> dict[str, Any]:
    """What the checked rows say of a head before and after, each row left out in turn.

    Args:
        before, after: the temperatures of its scores.
    """
    places = np.arange(rows.number)

    def of(logits: NDArray[np.float64], temperature: float) -> dict[str, float]:
        chosen = softmax(logits.astype(np.float32), temperature)[places, rows.labels]
        return {
            "accuracy": float((logits.argmax(axis=1) == rows.labels).mean()),
            "nll": float(-np.log(np.maximum(chosen, 1e-12)).mean()),
        }

    return {
        "rows": rows.number,
        "before": of(head.logits(rows.embeddings), before),
        "after": of(fitted.left_out, after),
        "changed": bool(np.isfinite(fitted.strength)),
    }


def _similarity(before: Path) -> dict[str, Any]:
    """What the model before recorded of its embedding, which is the same."""
    metrics = before / "metrics.json"
    known = json.loads(metrics.read_text(encoding="utf-8")) if metrics.is_file() else {}
    return {"stsb": known["stsb"]} if "stsb" in known else {}


def _note(task: str, found: Mapping[str, Any]) -> str:
    rows = f"{task}: {found['rows']:,} checked rows"
    after = f"{found['after']['accuracy']:.3f}"
    if found["new"]:
        return f"{rows}, a new task; accuracy on them {after}, each judged without itself"
    before = f"{found['before']['accuracy']:.3f}"
    if not found["changed"]:
        return f"{rows} bear out no change of its head (accuracy on them {before})"
    return f"{rows}; accuracy on them {before} before, {after} now, each judged without itself"
