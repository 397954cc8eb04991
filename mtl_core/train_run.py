"""A whole training run: data, model, scenario, loop, official evaluation, model directory."""

import json
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from mtl_core.card import model_card
from mtl_core.checkpoint import CheckpointFolder, run_tag, save_model
from mtl_core.config import ModelConfig, TrainConfig
from mtl_core.data import LabelledTexts, balance_classes, load_split, sample_rows, split_held_out
from mtl_core.evaluate import evaluate_model
from mtl_core.files import file_sha256, write_json, write_text
from mtl_core.model import build_model
from mtl_core.precision import best_device
from mtl_core.tasks import Task
from mtl_core.tokenizer import Tokenizer
from mtl_core.train import EncodedTexts, Step, TrainingLoop, encode_texts


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
    model, tokenizer = build_model(model_config)
    model.to(best_device())
    loop = TrainingLoop(
        model,
        tokenizer,
        _encode({name: split[0] for name, split in splits.items()}, tokenizer, config),
        _encode({name: split[1] for name, split in splits.items()}, tokenizer, config),
        config,
        _checkpoints(checkpoint_dir, config, model.config),
        report,
    )
    stage("train")
    history = loop.run()
    stage("evaluate")
    metrics = evaluate_model(model, tokenizer, data_dir, precision=config.precision)
    stage("save")
    rows = {name: len(split[0]) for name, split in splits.items()}
    training = {
        "command": command,
        "data": "local Parquet" if data_dir is not None else "hub",
        "rows": rows,
        **config.as_dict(),
    }
    seconds = round(time.monotonic() - started, 1)
    save_model(model.cpu(), loop.trained, output, training)
    facts = {
        "official": metrics,
        "seconds": seconds,
        "trained_parameters": sum(
            p.numel() for n, p in model.named_parameters() if n in set(loop.trained)
        ),
        "software": software_versions(),
    }
    write_json(output / "metrics.json", facts)
    write_json(output / "history.json", history)
    write_text(output / "README.md", model_card(name, model.config, training, facts))
    sha256 = file_sha256(output / "model.safetensors")
    return TrainedModel(output, sha256, loop.rows_total if loop.trained else 0, metrics)


def training_split(
    task: Task, config: TrainConfig, data_dir: Path | None
) -> tuple[LabelledTexts, LabelledTexts]:
    """One task's rows to train on and rows held out, as the settings say.

    Raises:
        DataError: the split is missing or malformed, or too small to hold rows out of.
    """
    data = load_split(task, task.source.train_split if task.source else "train", data_dir)
    data = sample_rows(data, config.max_rows_per_task, config.seed)
    train, held_out = split_held_out(data, config.held_out_fraction, config.seed)
    if config.balance_classes:
        train = balance_classes(train, config.seed)
    return train, held_out


def _encode(
    data: dict[str, LabelledTexts], tokenizer: Tokenizer, config: TrainConfig
) -> dict[str, EncodedTexts]:
    return {name: encode_texts(texts, tokenizer, config.max_tokens) for name, texts in data.items()}


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
