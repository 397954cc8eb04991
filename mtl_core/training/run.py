"""A whole training run: data, model, scenario, loop, official evaluation, model directory."""

import json
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import KW_ONLY, dataclass, field, fields, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from mtl_core.config import Calibration, ModelConfig, TrainConfig
from mtl_core.data import splits as data
from mtl_core.data.splits import LabelledTexts, LoadSplit
from mtl_core.data.stsb import Pairs, load_pairs
from mtl_core.errors import DataError
from mtl_core.evaluation.calibration import fit_calibration
from mtl_core.evaluation.evaluate import Evaluation, evaluate_model
from mtl_core.evaluation.similarity import SimilarityProbe
from mtl_core.files import file_sha256, write_json, write_text
from mtl_core.model.config import WEIGHTS
from mtl_core.model.network import MultiTaskModel, build_model, save_model
from mtl_core.model.precision import best_device
from mtl_core.model.typicality import write_typicality
from mtl_core.pulse import Pulse, no_pulse, with_pulse
from mtl_core.tasks import Task
from mtl_core.training.card import model_card
from mtl_core.training.checkpoint import CheckpointFolder, run_tag
from mtl_core.training.loop import Step, TrainingLoop
from mtl_core.training.preparation import encode_splits, training_split
from mtl_core.training.scalars import Scalars
from mtl_core.training.typicality import FittedTypicality, fit_typicality

Splits = dict[str, tuple[LabelledTexts, LabelledTexts]]
"""By task, the rows to train on and those held out."""
History = list[dict[str, Any]]
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
        splits = {task.name: training_split(task, self.config, load_split, pulse) for task in tasks}
        pairs = load_pairs(self.data_dir, ask_hub=not any_own_files(tasks), pulse=pulse)
        self.stage("model")
        model = _fresh_model(self.config, self.model_config, pulse)
        loop, history, similarity = self._train(model, splits, pairs)
        self.stage("evaluate")
        evaluation = evaluate_model(
            model,
            load_split,
            held_out={name: split[1] for name, split in splits.items()},
            trained_on={name: split[0] for name, split in splits.items()} if loop.trained else None,
            zero_shot=not loop.trained,
            precision=self.config.precision,
            similarity=similarity,
            pulse=pulse,
        )
        typicality = fit_typicality(loop, load_split, pulse)
        self.stage("save")
        pulse()
        sha256 = self._save(model, loop, splits, history, evaluation, typicality, started)
        rows = loop.rows_total if loop.trained else 0
        return TrainedModel(self.output, sha256, rows, evaluation.official)

    def _train(
        self, model: MultiTaskModel, splits: Splits, pairs: Pairs | None
    ) -> tuple[TrainingLoop, History, Probe]:
        """Encode, train and calibrate.

        Returns:
            the loop that ran, its history, and the probe that measures the embedding.
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
            checkpoints = _checkpoints(self.checkpoint_dir, config, model.config, splits)
            encoded = encode_splits(splits, model, tokenizer, config, scratch, pulse)
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
        model.config = replace(model.config, calibration=calibration)
        return loop, history, probe

    def _save(
        self,
        model: MultiTaskModel,
        loop: TrainingLoop,
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
            "notes": [note for split in splits.values() for note in split[0].notes],
            **self.config.as_dict(),
        }
        trained, output = set(loop.trained), self.output
        with_pulse(self.pulse, save_model, model.cpu(), trained, output, training_facts)
        sha256 = file_sha256(output / WEIGHTS)
        write_typicality(output, typicality.tasks, sha256)
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


def _calibration(loop: TrainingLoop, pulse: Pulse) -> dict[str, Calibration]:
    """Each task's calibration, fitted on its held-out rows."""
    return {
        name: with_pulse(pulse, fit_calibration, loop.held_out_logits(name), encoded.data.labels)
        for name, encoded in loop.held_out.items()
    }


def any_own_files(tasks: Sequence[Task]) -> bool:
    """Whether a task has files of its own; the hub is then not asked for STS-B."""
    return any(task.source is not None and task.source.files for task in tasks)


def _fresh_model(config: TrainConfig, model_config: ModelConfig, pulse: Pulse) -> MultiTaskModel:
    torch.manual_seed(config.seed)  # the fresh projection and heads depend on it
    wanted = replace(model_config, logit_scale=config.logit_scale)
    model, _ = with_pulse(pulse, build_model, wanted)
    model.to(best_device())
    return model


def evaluate_trained(
    model: MultiTaskModel,
    data_dir: Path | None,
    training: Mapping[str, Any],
    *,
    load_split: LoadSplit | None = None,
    precision: str = "auto",
    report: Callable[[str], None] = lambda task: None,
) -> Evaluation:
    """Score a trained model on each task's official split, or on the rows that its run held out.

    If the training data is there, the metrics also say how the model does on evaluation rows that
    share no run of eight words with it.

    Args:
        training: the run's settings as the model's ``config.json`` holds them.
        load_split: as for a :class:`TrainingRun`.
    Raises:
        DataError: as :func:`mtl_core.evaluation.evaluate.evaluate_model`.
    """
    load_split = load_split or partial(data.load_split, data_dir=data_dir)
    known = {each.name for each in fields(TrainConfig)}
    config = TrainConfig(**{key: value for key, value in training.items() if key in known})
    tasks = model.config.tasks
    splits = _splits_there(tasks, config, load_split)
    complete = len(splits) == len(tasks) and config.scenario != "frozen"
    pairs = load_pairs(data_dir, ask_hub=not any_own_files(tasks))
    return evaluate_model(
        model,
        load_split,
        held_out={name: split[1] for name, split in splits.items()},
        trained_on={name: split[0] for name, split in splits.items()} if complete else None,
        zero_shot=config.scenario == "frozen",
        precision=precision,
        similarity=SimilarityProbe(model.encoder, model.tokenizer, pairs, precision),
        report=report,
    )


def _splits_there(tasks: Sequence[Task], config: TrainConfig, load_split: LoadSplit) -> Splits:
    """Load the splits of the tasks whose training data is there.

    Raises:
        DataError: the training data of a task without an official split is not there.
    """
    splits = {}
    for task in tasks:
        try:
            splits[task.name] = training_split(task, config, load_split)
        except DataError:  # the training data need not be there to score a model
            if task.source is None or not task.source.has_official_split:
                raise
    return splits


def _checkpoints(
    folder: Path | None,
    config: TrainConfig,
    model_config: ModelConfig,
    splits: Splits,
) -> CheckpointFolder | None:
    """This run's checkpoints only: of these settings, this backbone, these tasks and rows."""
    if folder is None:
        return None
    weights = [(t.name, t.weight, t.frozen_weight) for t in model_config.tasks]
    rows = {name: [part.digest() for part in split] for name, split in splits.items()}
    made_of = {"backbone": model_config.backbone_sha256, "weights": weights, "rows": rows}
    settings = config.as_dict() | made_of
    return CheckpointFolder(folder, run_tag(json.loads(json.dumps(settings))))


def software_versions() -> dict[str, str]:
    """Versions of the software that decides a run's numbers."""
    return {
        "python": platform.python_version(),
        **{name: version(name) for name in ("torch", "transformers", "tokenizers")},
    }
