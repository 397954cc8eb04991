"""Files of a model and of a training run in progress: atomic, checked, safetensors and JSON only.

A **model directory** is what training makes and labelling reads: ``model.safetensors`` holds only
what was trained (projection, heads and scales always; backbone parameters when the scenario
trained them, in half precision), ``config.json`` the rest needed to rebuild the model, with the
backbone's name and sha256. A **checkpoint** is one safetensors file with everything that
the next step of an interrupted run depends on.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from mtl_core.errors import ModelError
from mtl_core.files import file_sha256, replace_file, temporary_beside, write_json
from mtl_core.model import MultiTaskModel, build_model
from mtl_core.model_config import MODEL_FORMAT, read_model_config
from mtl_core.tasks import task_as_json
from mtl_core.tokenizer import Tokenizer

BACKBONE_PREFIX = "encoder.backbone."


@dataclass(frozen=True)
class LoadedModel:
    """A model directory brought to life, in evaluation mode on the CPU, float32."""

    model: MultiTaskModel
    tokenizer: Tokenizer
    sha256: str
    """SHA-256 of ``model.safetensors``; names the model in manifests."""


def save_model(
    model: MultiTaskModel, trained: Iterable[str], folder: Path, training: Mapping[str, Any]
) -> None:
    """Write ``model.safetensors`` and ``config.json``.

    Args:
        trained: names of the parameters that the run changed.
        training: settings of the run, kept in ``config.json`` as they are.
    """
    changed = set(trained)
    tensors: dict[str, Tensor] = {}
    for name, parameter in model.named_parameters():
        value = parameter.detach().cpu().contiguous()
        if not name.startswith(BACKBONE_PREFIX):
            tensors[name] = value.clone()
        elif name in changed:
            tensors[name] = value.to(torch.float16)
    folder.mkdir(parents=True, exist_ok=True)
    weights = folder / "model.safetensors"
    temporary = temporary_beside(weights)
    save_file(tensors, str(temporary), metadata={"format": "pt"})
    replace_file(temporary, weights)
    config = model.config
    write_json(
        folder / "config.json",
        {
            "format": MODEL_FORMAT,
            "backbone": config.backbone,
            "backbone_sha256": config.backbone_sha256,
            "embedding_size": config.embedding_size,
            "max_tokens": config.max_tokens,
            "logit_scale": config.logit_scale,
            "tasks": [task_as_json(task) for task in config.tasks],
            "calibration": {name: asdict(c) for name, c in config.calibration.items()},
            "training": dict(training),
        },
    )


def load_model(folder: Path) -> LoadedModel:
    """Rebuild a model from its directory and its backbone.

    Raises:
        ModelError: the directory is incomplete or damaged.
        BackboneError: the backbone is missing or has other weights than the model was trained on.
    """
    config = read_model_config(folder)
    weights = folder / "model.safetensors"
    if not weights.is_file():
        raise ModelError(f"{folder} is no model directory: it holds no model.safetensors")
    model, tokenizer = build_model(config)
    tensors = read_tensors(weights)
    parameters = dict(model.named_parameters())
    missing = [n for n in parameters if n not in tensors and not n.startswith(BACKBONE_PREFIX)]
    unknown = [n for n in tensors if n not in parameters]
    if missing or unknown:
        raise ModelError(
            f"{weights} does not fit its config.json: missing {missing}, unknown {unknown}"
        )
    with torch.no_grad():
        for name, value in tensors.items():
            parameters[name].copy_(value)
    return LoadedModel(model.eval(), tokenizer, file_sha256(weights))


def read_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a safetensors file.

    Raises:
        ModelError: missing, or not a whole safetensors file.
    """
    try:
        with safe_open(str(path), framework="pt") as stream:
            return {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{path} cannot be read: {error}") from error


@dataclass(frozen=True)
class TrainState:
    """Where a training run stands: everything its next step depends on."""

    step: int
    """Optimizer steps taken so far, over all epochs."""
    tensors: dict[str, Tensor]
    """Trained parameters, AdamW's moments and the random generator's state."""
    history: list[dict[str, Any]]
    losses: dict[str, list[float]]
    """Of each task, in the epoch under way."""


class CheckpointFolder:
    """Checkpoints of one run, tagged with run and step; the newest valid one resumes it."""

    def __init__(self, folder: Path, run: str, keep: int = 2) -> None:
        self.folder, self.run, self.keep = folder, run, keep

    def save(self, state: TrainState) -> Path:
        """Write a checkpoint, then its checksum, then remove all but the newest ``keep``."""
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"step-{state.step:08d}.safetensors"
        temporary = temporary_beside(path)
        save_file(state.tensors, str(temporary))
        replace_file(temporary, path)
        # Written last: a checkpoint without its JSON was interrupted and does not count.
        write_json(
            path.with_suffix(".json"),
            {
                "run": self.run,
                "step": state.step,
                "sha256": file_sha256(path),
                "history": state.history,
                "losses": state.losses,
            },
        )
        for old in sorted(self.folder.glob("step-*.safetensors"))[: -self.keep]:
            old.with_suffix(".json").unlink(missing_ok=True)
            old.unlink(missing_ok=True)
        return path

    def newest(self) -> TrainState | None:
        """The newest checkpoint of this run whose checksum holds, or None."""
        for path in sorted(self.folder.glob("step-*.safetensors"), reverse=True):
            try:
                tag = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
                if tag["run"] == self.run and tag["sha256"] == file_sha256(path):
                    tensors = read_tensors(path)
                    return TrainState(int(tag["step"]), tensors, tag["history"], tag["losses"])
            except (OSError, ValueError, KeyError, ModelError):
                continue  # interrupted or damaged: an older one serves
        return None


def run_tag(config: Mapping[str, Any]) -> str:
    """A short name for a run, made from its settings: other settings, other run."""
    return hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()[:12]
