"""A whole training run: data, model, scenario, loop, official evaluation, model directory."""

import json
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, fields, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType
from typing import Any

import torch

from mtl_core.config import ModelConfig, TrainConfig
from mtl_core.data import splits as data
from mtl_core.data.splits import LabelledTexts, LoadSplit
from mtl_core.data.stsb import load_pairs
from mtl_core.errors import DataError
from mtl_core.evaluation.calibration import fit_calibration
from mtl_core.evaluation.evaluate import Evaluation, evaluate_model
from mtl_core.evaluation.similarity import similarity_probe
from mtl_core.files import file_sha256, write_json, write_text
from mtl_core.model.network import MultiTaskModel, build_model, save_model
from mtl_core.model.precision import best_device
from mtl_core.model.tokenizer import Tokenizer
from mtl_core.pulse import Pulse, no_pulse, with_pulse
from mtl_core.tasks import Task
from mtl_core.training.card import model_card
from mtl_core.training.checkpoint import CheckpointFolder, run_tag
from mtl_core.training.loop import Step, TrainingLoop
from mtl_core.training.preparation import encode_splits, training_split
from mtl_core.training.scalars import Scalars

EMPTY: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True)
class TrainedModel:
    """What a run leaves behind."""

    folder: Path
    sha256: str
    rows: int
    """Rows trained on, over all tasks and epochs."""
    metrics: dict[str, Any]
    """Official metrics by task."""


def run_training(
    config: TrainConfig,
    model_config: ModelConfig,
    data_dir: Path | None,
    output: Path,
    *,
    name: str,
    command: str,
    checkpoint_dir: Path | None = None,
    load_split: LoadSplit | None = None,
    files: Mapping[str, str] = EMPTY,
    report: Callable[[Step], None] = lambda step: None,
    stage: Callable[[str], None] = lambda name: None,
    pulse: Pulse = no_pulse,
) -> TrainedModel:
    """Train as ``config`` says and write a model directory.

    Args:
        model_config: the structure; its logit scale gives way to the run's.
        data_dir: folder laid out as ``<task folder>/<split>.parquet``; None loads from the hub.
        output: the model directory to write; an existing one is replaced file by file.
        name: the model's name, for its card.
        command: the command that asked for the run, for the model card.
        checkpoint_dir: where checkpoints go; with one of the same settings there, the run resumes.
        load_split: reads the tasks' data; by default known data sets from ``data_dir`` or the hub.
        files: names of the local files it reads by SHA-256, kept in ``config.json``.
        report: called every tenth step; an exception it raises ends the run.
        stage: called with a word at each part of the run (``data``, ``train``, ``evaluate`` …).
        pulse: called every few seconds in every part; an exception it raises ends the run.
    Raises:
        DataError, ModelError, BackboneError: as their own docstrings say.
    """
    started = time.monotonic()
    load_split = load_split or partial(data.load_split, data_dir=data_dir, pulse=pulse)
    tasks = model_config.tasks
    stage("data")
    splits = {task.name: training_split(task, config, load_split, pulse) for task in tasks}
    pairs = load_pairs(data_dir, ask_hub=not any_own_files(tasks), pulse=pulse)
    stage("model")
    model, tokenizer = _fresh_model(config, model_config, pulse)
    scalars = Scalars(output)

    def tell(step: Step) -> None:
        scalars.step(step)
        report(step)

    with ExitStack() as stack:
        scratch = checkpoint_dir or Path(stack.enter_context(TemporaryDirectory(prefix="mtl-")))
        stage("encode")
        training, held_out = encode_splits(splits, model, tokenizer, config, scratch, pulse)
        frozen = not any(p.requires_grad for p in model.encoder.backbone.parameters())
        probe = similarity_probe(
            model.encoder, tokenizer, pairs, config.precision, frozen=frozen, pulse=pulse
        )
        loop = TrainingLoop(
            model,
            tokenizer,
            training,
            held_out,
            config,
            _checkpoints(checkpoint_dir, config, model.config, splits),
            tell,
            lambda: {"stsb": found} if (found := probe()) is not None else {},
            pulse,
        )
        stage("train")
        history = loop.run()
        scalars.finish(history)
        stage("calibrate")
        calibration = {
            name: with_pulse(
                pulse, fit_calibration, loop.held_out_logits(name), encoded.data.labels
            )
            for name, encoded in held_out.items()
        }
    model.config = replace(model.config, calibration=calibration)
    stage("evaluate")
    evaluation = evaluate_model(
        model,
        load_split,
        held_out={name: split[1] for name, split in splits.items()},
        trained_on={name: split[0] for name, split in splits.items()} if loop.trained else None,
        zero_shot=not loop.trained,
        precision=config.precision,
        similarity=probe,
        pulse=pulse,
    )
    stage("save")
    pulse()
    training_facts = {
        "command": command,
        "data": "local Parquet" if data_dir is not None else "hub",
        "rows": {name: len(split[0]) for name, split in splits.items()},
        "files": dict(files),
        "notes": [note for split in splits.values() for note in split[0].notes],
        **config.as_dict(),
    }
    trained = set(loop.trained)
    with_pulse(pulse, save_model, model.cpu(), trained, output, training_facts)
    facts = {
        **evaluation.as_dict(),
        "seconds": round(time.monotonic() - started, 1),
        "trained_parameters": sum(p.numel() for n, p in model.named_parameters() if n in trained),
        "software": software_versions(),
    }
    write_json(output / "metrics.json", facts)
    write_json(output / "history.json", history)
    write_text(output / "README.md", model_card(name, model.config, training_facts, facts))
    sha256 = file_sha256(output / "model.safetensors")
    return TrainedModel(output, sha256, loop.rows_total if trained else 0, evaluation.official)


def any_own_files(tasks: Sequence[Task]) -> bool:
    """Whether a task has files of its own: such a run asks no hub for what it can spare."""
    return any(task.source is not None and task.source.files for task in tasks)


def _fresh_model(
    config: TrainConfig, model_config: ModelConfig, pulse: Pulse
) -> tuple[MultiTaskModel, Tokenizer]:
    torch.manual_seed(config.seed)  # the fresh projection and heads depend on it
    wanted = replace(model_config, logit_scale=config.logit_scale)
    model, tokenizer = with_pulse(pulse, build_model, wanted)
    model.to(best_device())
    return model, tokenizer


def evaluate_trained(
    model: MultiTaskModel,
    data_dir: Path | None,
    training: Mapping[str, Any],
    *,
    load_split: LoadSplit | None = None,
    precision: str = "auto",
    report: Callable[[str], None] = lambda task: None,
) -> Evaluation:
    """Score a trained model; a task without an official split on the rows its run held out.

    Where the training data is there, also on the rows that share nothing with it.

    Args:
        training: the run's settings as the model's ``config.json`` holds them.
        load_split: as in :func:`run_training`.
    Raises:
        DataError: as :func:`mtl_core.evaluation.evaluate.evaluate_model`.
    """
    load_split = load_split or partial(data.load_split, data_dir=data_dir)
    known = {field.name for field in fields(TrainConfig)}
    config = TrainConfig(**{key: value for key, value in training.items() if key in known})
    splits = {}
    tasks = model.config.tasks
    for task in tasks:
        try:
            splits[task.name] = training_split(task, config, load_split)
        except DataError:  # the training data need not be there to score a model
            if task.source is None or not task.source.has_official_split:
                raise
    complete = len(splits) == len(tasks) and config.scenario != "frozen"
    pairs = load_pairs(data_dir, ask_hub=not any_own_files(tasks))
    return evaluate_model(
        model,
        load_split,
        held_out={name: split[1] for name, split in splits.items()},
        trained_on={name: split[0] for name, split in splits.items()} if complete else None,
        zero_shot=config.scenario == "frozen",
        precision=precision,
        similarity=similarity_probe(model.encoder, model.tokenizer, pairs, precision),
        report=report,
    )


def _checkpoints(
    folder: Path | None,
    config: TrainConfig,
    model_config: ModelConfig,
    splits: Mapping[str, tuple[LabelledTexts, LabelledTexts]],
) -> CheckpointFolder | None:
    """Checkpoints of this run alone: of these settings, this backbone, these tasks and rows."""
    if folder is None:
        return None
    weights = [(t.name, t.weight, t.frozen_weight) for t in model_config.tasks]
    rows = {name: [part.digest() for part in split] for name, split in splits.items()}
    made_of = {"backbone": model_config.backbone_sha256, "weights": weights, "rows": rows}
    settings = config.as_dict() | made_of
    return CheckpointFolder(folder, run_tag(json.loads(json.dumps(settings))))


def software_versions() -> dict[str, str]:
    """Versions of what decides a run's numbers."""
    return {
        "python": platform.python_version(),
        **{name: version(name) for name in ("torch", "transformers", "tokenizers")},
    }
