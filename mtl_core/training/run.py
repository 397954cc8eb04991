"""A whole training run: data, model, scenario, loop, official evaluation, model directory."""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import KW_ONLY, dataclass, field, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from mtl_core.config import Calibration, ModelConfig, TrainConfig
from mtl_core.data import splits as data
from mtl_core.data.splits import LabelledTexts, LoadSplit
from mtl_core.data.stsb import Pairs, load_pairs
from mtl_core.evaluation.answers import ModelAnswers
from mtl_core.evaluation.calibration import fit_calibration
from mtl_core.evaluation.evaluate import Evaluation, evaluate_model
from mtl_core.evaluation.similarity import SimilarityProbe
from mtl_core.evaluation.suspects import SUSPECTS, Suspects, find_suspects, write_suspects
from mtl_core.files import file_sha256, write_json, write_text
from mtl_core.model.config import WEIGHTS
from mtl_core.model.identity import encoder_sha256
from mtl_core.model.network import MultiTaskModel, save_model
from mtl_core.model.precision import best_device
from mtl_core.model.stored import write_stored
from mtl_core.model.typicality import write_typicality
from mtl_core.pulse import Pulse, no_pulse, with_pulse
from mtl_core.tasks import Task, any_own_files
from mtl_core.training.card import model_card
from mtl_core.training.checkpoint import CheckpointFolder, run_tag
from mtl_core.training.kept.teacher import SoftLabels, Teacher, soft_labels, with_unlabelled
from mtl_core.training.loop import Step, TrainingLoop
from mtl_core.training.preparation import Splits, encode_splits, training_split
from mtl_core.training.scalars import Scalars
from mtl_core.training.software import software_versions
from mtl_core.training.start import fresh_model
from mtl_core.training.typicality import FittedTypicality, fit_typicality

History = list[dict[str, Any]]
LoadAdded = Callable[[Task], LabelledTexts | None]
"""A function that gives a task's further rows to train on; None if there are none."""
LoadUnlabelled = Callable[[Task], Sequence[str]]
"""A function that gives texts without labels to train a task on."""
Probe = Callable[[], dict[str, Any] | None]
"""A function that gives Spearman's correlation on STS-B; None without its data."""


@dataclass(frozen=True)
class TrainedModel:
    """What a run leaves behind."""

    folder: Path
    sha256: str
    rows: int
    """Rows trained on, over all tasks and epochs."""
    metrics: dict[str, Any]
    """Official metrics by task."""


@dataclass(frozen=True)
class TrainingRun:
    """A training run as it is asked for; :meth:`run` makes the model directory."""

    config: TrainConfig
    model_config: ModelConfig
    """The model's structure; its ``logit_scale`` is replaced by that of ``config``."""
    data_dir: Path | None
    """Folder laid out as ``<task folder>/<split>.parquet``; None loads from the hub."""
    output: Path
    """The model directory to write; an existing one is replaced file by file."""
    _: KW_ONLY
    name: str
    """The model's name, for its card."""
    command: str
    """The command that asked for the run, for the card."""
    checkpoint_dir: Path | None = None
    """Folder of checkpoints; the run resumes from one there that has the same settings."""
    load_split: LoadSplit | None = None
    """Reads the tasks' data; None reads known data sets from ``data_dir`` or the hub."""
    load_added: LoadAdded = lambda task: None
    """Reads further rows to train on."""
    teachers: Sequence[Teacher] = ()
    """Models whose answers the run learns beside the labels."""
    load_unlabelled: LoadUnlabelled = lambda task: ()
    """Reads texts that have the teachers' answers alone."""
    files: Mapping[str, str] = field(default_factory=dict)
    """Names of the local files it reads by SHA-256, kept in ``config.json``."""
    report: Callable[[Step], None] = lambda step: None
    """Called at every tenth step and the last; an exception it raises ends the run."""
    stage: Callable[[str], None] = lambda name: None
    """Called with a word at each part of the run (``data``, ``train``, ``evaluate`` …)."""
    pulse: Pulse = no_pulse
    """Called every few seconds in every part; an exception it raises ends the run."""

    def run(self) -> TrainedModel:
        """Train as the settings say and write the model directory.

        Raises:
            DataError, ModelError, BackboneError: as their own docstrings say.
        """
        started = time.monotonic()
        tasks, pulse = self.model_config.tasks, self.pulse
        load_split = self.load_split or partial(
            data.load_split, data_dir=self.data_dir, pulse=pulse
        )
        self.stage("data")
        unlabelled = {task.name: self.load_unlabelled(task) for task in tasks}
        splits = {
            task.name: training_split(task, self.config, load_split, self.load_added(task), pulse)
            for task in tasks
        }
        pairs = load_pairs(self.data_dir, ask_hub=not any_own_files(tasks), pulse=pulse)
        self.stage("model")
        model, taken = fresh_model(self.config, self.model_config, self.teachers, pulse)
        loop, history, similarity, suspects = self._train(model, splits, unlabelled, pairs)
        self.stage("evaluate")
        evaluation = evaluate_model(
            ModelAnswers(model, self.config.precision, pulse),
            load_split,
            held_out={name: split[1] for name, split in splits.items()},
            trained_on={name: split[0] for name, split in splits.items()} if loop.trained else None,
            zero_shot=not loop.trained,
            similarity=similarity,
            pulse=pulse,
        )
        typicality = fit_typicality(loop, load_split, pulse)
        self.stage("save")
        pulse()
        write_suspects(self.output / SUSPECTS, suspects)
        evaluation = replace(evaluation, suspects={n: s.counts() for n, s in suspects.items()})
        sha256 = self._save(model, loop, taken, splits, history, evaluation, typicality, started)
        rows = loop.rows_total if loop.trained else 0
        return TrainedModel(self.output, sha256, rows, evaluation.official)

    def _train(
        self,
        model: MultiTaskModel,
        splits: Splits,
        unlabelled: Mapping[str, Sequence[str]],
        pairs: Pairs | None,
    ) -> tuple[TrainingLoop, History, Probe, dict[str, Suspects]]:
        """Encode, train, calibrate, and find suspected label errors.

        Returns:
            the loop that ran, its history, the probe that measures the embedding, and the
            suspected rows by task.
        """
        scalars = Scalars(self.output)

        def tell(step: Step) -> None:
            scalars.step(step)
            self.report(step)

        config, pulse, tokenizer = self.config, self.pulse, model.tokenizer
        with ExitStack() as stack:
            scratch = self.checkpoint_dir or Path(
                stack.enter_context(TemporaryDirectory(prefix="mtl-"))
            )
            self.stage("encode")
            checkpoints = self._checkpoints(model.config, splits, unlabelled)
            rows, taught = self._taught(splits, unlabelled, scratch)
            encoded = encode_splits(rows, model, tokenizer, config, scratch, taught, pulse)
            frozen = not any(p.requires_grad for p in model.encoder.backbone.parameters())
            probe = SimilarityProbe(
                model.encoder, tokenizer, pairs, config.precision, frozen=frozen, pulse=pulse
            )
            loop = TrainingLoop(
                *(model, tokenizer, *encoded, config),
                checkpoints=checkpoints,
                report=tell,
                similarity=probe,
                pulse=pulse,
            )
            self.stage("train")
            history = loop.run()
            scalars.finish(history)
            self.stage("calibrate")
            calibration = _calibration(loop, pulse)
            self.stage("suspects")
            suspects = _suspects(loop, splits, pulse)
        model.config = replace(model.config, calibration=calibration)
        return loop, history, probe, suspects

    def _taught(
        self, splits: Splits, unlabelled: Mapping[str, Sequence[str]], scratch: Path
    ) -> tuple[Splits, dict[str, SoftLabels]]:
        """Put the texts without labels behind the rows, and ask the teachers about all of them."""
        if not self.teachers:
            return splits, {}
        rows = {
            name: (with_unlabelled(train, unlabelled[name]), held_out)
            for name, (train, held_out) in splits.items()
        }
        asked = {name: train for name, (train, _) in rows.items()}
        return rows, soft_labels(asked, self.teachers, scratch, self.pulse)

    def _checkpoints(
        self,
        model_config: ModelConfig,
        splits: Splits,
        unlabelled: Mapping[str, Sequence[str]],
    ) -> CheckpointFolder | None:
        """This run's checkpoints only: of these settings, backbone, tasks, rows and teachers."""
        if self.checkpoint_dir is None:
            return None
        weights = [(t.name, t.weight, t.frozen_weight) for t in model_config.tasks]
        rows = {name: [part.digest() for part in split] for name, split in splits.items()}
        made_of: dict[str, Any] = {
            "backbone": model_config.backbone_sha256,
            "weights": weights,
            "rows": rows,
        }
        if self.teachers:
            made_of |= {
                "teachers": [teacher.sha256 for teacher in self.teachers],
                "unlabelled": {name: list(texts) for name, texts in unlabelled.items()},
            }
        settings = self.config.as_dict() | made_of
        return CheckpointFolder(self.checkpoint_dir, run_tag(json.loads(json.dumps(settings))))

    def _save(
        self,
        model: MultiTaskModel,
        loop: TrainingLoop,
        taken: set[str],
        splits: Splits,
        history: History,
        evaluation: Evaluation,
        typicality: FittedTypicality,
        started: float,
    ) -> str:
        """Write the model directory; returns the SHA-256 of its weights."""
        training_facts = {
            "command": self.command,
            "data": "local Parquet" if self.data_dir is not None else "hub",
            "rows": {name: len(split[0]) for name, split in splits.items()},
            "files": dict(self.files),
            **_taught_by(self.teachers),
            "notes": [note for split in splits.values() for note in split[0].notes],
            **self.config.as_dict(),
        }
        trained, output = set(loop.trained), self.output
        with_pulse(self.pulse, save_model, model.cpu(), trained | taken, output, training_facts)
        sha256 = file_sha256(output / WEIGHTS)
        write_typicality(output, typicality.tasks, sha256)
        write_stored(output, typicality.stored, encoder_sha256(output))
        facts = {
            **evaluation.as_dict(),
            "typicality": typicality.facts,
            "seconds": round(time.monotonic() - started, 1),
            "trained_parameters": sum(
                p.numel() for n, p in model.named_parameters() if n in trained
            ),
            "software": software_versions(),
        }
        write_json(output / "metrics.json", facts)
        write_json(output / "history.json", history)
        write_text(output / "README.md", model_card(self.name, model.config, training_facts, facts))
        return sha256


def _taught_by(teachers: Sequence[Teacher]) -> dict[str, Any]:
    """Names of the run's teachers by the SHA-256 of their weights, for ``config.json``."""
    return {"teachers": {each.sha256: each.name for each in teachers}} if teachers else {}


def _suspects(loop: TrainingLoop, splits: Splits, pulse: Pulse) -> dict[str, Suspects]:
    """The suspected label errors of each task whose pooled vectors are kept."""
    found = {}
    for name, (rows, _) in splits.items():
        pooled = loop.training[name].pooled
        if pooled is not None:  # texts without labels stand behind the rows
            found[name] = find_suspects(rows, pooled[: len(rows)], pulse, best_device())
    return found


def _calibration(loop: TrainingLoop, pulse: Pulse) -> dict[str, Calibration]:
    """Each task's calibration, fitted on its held-out rows."""
    return {
        name: with_pulse(pulse, fit_calibration, loop.held_out_logits(name), encoded.data.labels)
        for name, encoded in loop.held_out.items()
    }
