"""Checkpoints of a training run: atomic, checked, safetensors and JSON only.

A checkpoint is one safetensors file with everything that the next step of an interrupted run
depends on, and JSON beside it.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

from mtl_core.errors import ModelError
from mtl_core.files import file_sha256, replace_file, temporary_beside, write_json
from mtl_core.model.folder import read_tensors


@dataclass(frozen=True)
class TrainState:
    """Where a training run stands: everything its next step depends on."""

    step: int
    """Optimizer steps taken so far, over all epochs."""
    tensors: dict[str, Tensor]
    """Trained parameters, AdamW's moments and the random generator's state."""
    history: list[dict[str, Any]]
    losses: dict[str, list[float]]
    """Losses of the steps so far in the current epoch, by task and of ``similarity``."""


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
