"""A whole training run: data, model, scenario, loop, official evaluation, model directory."""

import json
import platform
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, fields, replace
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from mtl_core.calibration import fit_calibration
from mtl_core.card import model_card
from mtl_core.checkpoint import CheckpointFolder, run_tag, save_model
from mtl_core.config import ModelConfig, TrainConfig
from mtl_core.errors import DataError
from mtl_core.evaluate import Evaluation, evaluate_model
from mtl_core.files import file_sha256, write_json, write_text
from mtl_core.model import MultiTaskModel, build_model
from mtl_core.precision import best_device
from mtl_core.preparation import encode_splits, training_split
from mtl_core.scalars import Scalars
from mtl_core.similarity import similarity_probe
from mtl_core.tokenizer import Tokenizer
from mtl_core.train import Step, TrainingLoop


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
    report: Callable[[Step], None] = lambda step: None,
    stage: Callable[[str], None] = lambda name: None,
) -> TrainedModel:
    """Train as ``config`` says and write a model directory.

    Args:
        model_config: the structure; its logit scale gives way to the run's.
        data_dir: folder laid out as ``<task folder>/<split>.parquet``; None loads from the hub.
        output: the model directory to write; an existing one is replaced file by file.
        name: the model's name, for its card.
        command: the command that asked for the run, for the model card.
        checkpoint_dir: where checkpoints go; with one of the same settings there, the run resumes.
        report: called every tenth step; an exception it raises ends the run.
        stage: called with a word at each part of the run (``data``, ``train``, ``evaluate`` …).
    Raises:
        DataError, ModelError, BackboneError: as their own docstrings say.
    """
    started = time.monotonic()
    stage("data")
    splits = {task.name: training_split(task, config, data_dir) for task in model_config.tasks}
    stage("model")
    torch.manual_seed(config.seed)  # the fresh projection and heads depend on it
    model, tokenizer = build_model(replace(model_config, logit_scale=config.logit_scale))
    model.to(best_device())
    scalars = Scalars(output)

    def tell(step: Step) -> None:
        scalars.step(step)
        report(step)

    with ExitStack() as stack:
        scratch = checkpoint_dir or Path(stack.enter_context(TemporaryDirectory(prefix="mtl-")))
        stage("encode")
        training, held_out = encode_splits(splits, model, tokenizer, config, scratch)
        loop = TrainingLoop(
            model,
            tokenizer,
            training,
            held_out,
            config,
            _checkpoints(checkpoint_dir, config, model.config),
            tell,
            _similarity(model, tokenizer, data_dir, config),
        )
        stage("train")
        history = loop.run()
        scalars.finish(history)
        stage("calibrate")
        calibration = {
            name: fit_calibration(loop.held_out_logits(name), encoded.data.labels)
            for name, encoded in held_out.items()
        }
    model.config = replace(model.config, calibration=calibration)
    stage("evaluate")
    evaluation = evaluate_model(
        model,
        tokenizer,
        data_dir,
        held_out={name: split[1] for name, split in splits.items()},
        trained_on={name: split[0] for name, split in splits.items()} if loop.trained else None,
        zero_shot=not loop.trained,
        precision=config.precision,
    )
    stage("save")
    trained = set(loop.trained)
    training_facts = {
        "command": command,
        "data": "local Parquet" if data_dir is not None else "hub",
        "rows": {name: len(split[0]) for name, split in splits.items()},
        **config.as_dict(),
    }
    save_model(model.cpu(), trained, output, training_facts)
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


def evaluate_trained(
    model: MultiTaskModel,
    data_dir: Path | None,
    training: Mapping[str, Any],
    *,
    precision: str = "auto",
    report: Callable[[str], None] = lambda task: None,
) -> Evaluation:
    """Score a trained model; a task without an official split on the rows its run held out.

    Where the training data is there, also on the rows that share nothing with it.

    Args:
        training: the run's settings as the model's ``config.json`` holds them.
    Raises:
        DataError: as :func:`mtl_core.evaluate.evaluate_model`.
    """
    known = {field.name for field in fields(TrainConfig)}
    config = TrainConfig(**{key: value for key, value in training.items() if key in known})
    splits = {}
    for task in model.config.tasks:
        with suppress(DataError):  # the training data need not be there to score a model
            splits[task.name] = training_split(task, config, data_dir)
    complete = len(splits) == len(model.config.tasks) and config.scenario != "frozen"
    return evaluate_model(
        model,
        model.tokenizer,
        data_dir,
        held_out={name: split[1] for name, split in splits.items()},
        trained_on={name: split[0] for name, split in splits.items()} if complete else None,
        zero_shot=config.scenario == "frozen",
        precision=precision,
        report=report,
    )


def _similarity(
    model: MultiTaskModel, tokenizer: Tokenizer, data_dir: Path | None, config: TrainConfig
) -> Callable[[], dict[str, Any]]:
    """STS-B for a record of the history, where its data is there."""
    frozen = not any(p.requires_grad for p in model.encoder.backbone.parameters())
    probe = similarity_probe(model.encoder, tokenizer, data_dir, config.precision, frozen=frozen)

    def record() -> dict[str, Any]:
        found = probe()
        return {"stsb": found} if found is not None else {}

    return record


def _checkpoints(
    folder: Path | None, config: TrainConfig, model_config: ModelConfig
) -> CheckpointFolder | None:
    if folder is None:
        return None
    settings = config.as_dict() | {"backbone": model_config.backbone_sha256}
    return CheckpointFolder(folder, run_tag(json.loads(json.dumps(settings))))


def software_versions() -> dict[str, str]:
    """Versions of what decides a run's numbers."""
    return {
        "python": platform.python_version(),
        **{name: version(name) for name in ("torch", "transformers", "tokenizers")},
    }
