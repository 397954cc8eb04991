"""A model directory's ``config.json``, read and written; loads neither torch nor weights."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mtl_core.config import Calibration, ModelConfig
from mtl_core.errors import ModelError
from mtl_core.tasks import task_as_json, task_from_json

MODEL_FORMAT = 1
CONFIG = "config.json"
WEIGHTS = "model.safetensors"
TYPICALITY = "typicality.safetensors"
"""Statistics of typicality; models of earlier versions have none."""


def read_model_config(folder: Path) -> ModelConfig:
    """Read a model directory's ``config.json``; loads no weights.

    Raises:
        ModelError: the file is missing, or not of a format this version reads.
    """
    path = folder / CONFIG
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        if raw["format"] != MODEL_FORMAT:
            raise ModelError(f"{path}: format {raw['format']}; this version reads {MODEL_FORMAT}")
        return ModelConfig(
            backbone=raw["backbone"],
            backbone_sha256=raw["backbone_sha256"],
            embedding_size=raw["embedding_size"],
            max_tokens=raw["max_tokens"],
            logit_scale=raw["logit_scale"],
            tasks=tuple(task_from_json(task) for task in raw["tasks"]),
            calibration={n: Calibration(**c) for n, c in raw.get("calibration", {}).items()},
        )
    except FileNotFoundError as error:
        raise ModelError(f"{folder} is no model directory: it holds no config.json") from error
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(f"{path} cannot be read: {error!r}") from error


def model_config_as_json(config: ModelConfig) -> dict[str, Any]:
    """A configuration as the JSON that :func:`read_model_config` reads."""
    return {
        "format": MODEL_FORMAT,
        "backbone": config.backbone,
        "backbone_sha256": config.backbone_sha256,
        "embedding_size": config.embedding_size,
        "max_tokens": config.max_tokens,
        "logit_scale": config.logit_scale,
        "tasks": [task_as_json(task) for task in config.tasks],
        "calibration": {name: asdict(c) for name, c in config.calibration.items()},
    }
