"""Training runs of seconds on the tiny backbone."""

from pathlib import Path
from typing import Any

import torch

from mtl_core.config import ModelConfig, TrainConfig, train_config
from mtl_core.data.draws import split_held_out
from mtl_core.data.encoded import EncodedTexts, encode_texts
from mtl_core.data.splits import load_split
from mtl_core.model.network import MultiTaskModel, build_model
from mtl_core.training.loop import TrainingLoop


def settings(**changes: Any) -> TrainConfig:
    """The recommended preset made small, with changes."""
    defaults = {
        "epochs": 1,
        "batch_rows": 16,
        "held_out_fraction": 0.2,
        "precision": "float32",
        "seed": 3,
    }
    return train_config("recommended", **{**defaults, **changes})


def loop_over(
    data: Path, backbone: Path, config: TrainConfig, device: str = "cpu", **options: Any
) -> tuple[TrainingLoop, MultiTaskModel]:
    """A loop over made-up data, not yet run, and its model."""
    torch.manual_seed(config.seed)
    model, tokenizer = build_model(ModelConfig(backbone=str(backbone)))
    model.to(device)
    training: dict[str, EncodedTexts] = {}
    held_out: dict[str, EncodedTexts] = {}
    for task in model.config.tasks:
        train, kept = split_held_out(load_split(task, "train", data), 0.2, config.seed)
        training[task.name] = encode_texts(train, tokenizer, 32)
        held_out[task.name] = encode_texts(kept, tokenizer, 32)
    return TrainingLoop(model, tokenizer, training, held_out, config, **options), model
