"""A model directory's ``config.json``, read and written; loads neither torch nor weights."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mtl_core.config import Calibration, ModelConfig
from mtl_core.errors import ModelError
from mtl_core.tasks import task_as_json, task_from_json

MODEL_FORMAT = 1
FORMAT_WITH_FEWER_LAYERS = 2
"""A version that does not know of it would put the layers' weights into other layers."""
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
        if raw["format"] not in (MODEL_FORMAT, FORMAT_WITH_FEWER_LAYERS):
            raise ModelError(
                f"{path}: format {raw['format']}; this version reads {MODEL_FORMAT} and "
                f"{FORMAT_WITH_FEWER_LAYERS}"
            )
        return ModelConfig(
            backbone=raw["backbone"],
            backbone_sha256=raw["backbone_sha256"],
            layers_kept=tuple(raw.get("layers_kept", ())),
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
    layers = {"layers_kept": list(config.layers_kept)} if config.layers_kept else {}
    return {
        "format": FORMAT_WITH_FEWER_LAYERS if layers else MODEL_FORMAT,
        **layers,
        "backbone": config.backbone,
        "backbone_sha256": config.backbone_sha256,
        "embedding_size": config.embedding_size,
        "max_tokens": config.max_tokens,
        "logit_scale": config.logit_scale,
        "tasks": [task_as_json(task) for task in config.tasks],
        "calibration": {name: asdict(c) for name, c in config.calibration.items()},
    }
