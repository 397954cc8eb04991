"""Write scalars for TensorBoard if it is installed."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from mtl_core.training.loop import Step

FOLDER = "tensorboard"


class Scalars:
    """Writes a run's scalars below a model directory; does nothing without TensorBoard."""

    def __init__(self, folder: Path) -> None:
        self._writer: Any = None
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            return
        self._writer = SummaryWriter(str(folder / FOLDER))

    def step(self, step: Step) -> None:
        """Write the loss at a step."""
        if self._writer is not None:
            self._writer.add_scalar("loss", step.loss, step.step)

    def finish(self, history: Iterable[dict[str, Any]]) -> None:
        """Write each epoch's losses, held-out metrics and STS-B; close the file."""
        if self._writer is None:
            return
        for record in history:
            step = record["step"]
            for name, loss in record["loss"].items():
                self._writer.add_scalar(f"epoch loss/{name}", loss, step)
            for task, metrics in record["held_out"].items():
                for key in ("accuracy", "precision", "recall", "f1"):
                    self._writer.add_scalar(f"held out {key}/{task}", metrics[key], step)
            if "stsb" in record:
                self._writer.add_scalar("STS-B", record["stsb"]["spearman"], step)
        self._writer.close()
