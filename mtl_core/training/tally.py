"""The losses of a run's steps, read from the device many at a time.

To read a number from a GPU is to wait until it has done all that was asked of it so far. A run
that asks at every step leaves the GPU without work while the next step is prepared.
"""

import math
from collections.abc import Iterable, Mapping

import numpy as np
import torch
from torch import Tensor

from mtl_core.errors import ModelError


class Tally:
    """Losses of the steps of one epoch, by name: each task's, and others beside them."""

    def __init__(self, tasks: Iterable[str], others: Iterable[str]) -> None:
        self._tasks = tuple(tasks)
        self._losses: dict[str, list[float]] = {name: [] for name in (*self._tasks, *others)}
        self._unread: list[tuple[str, int, Tensor, Tensor]] = []

    def add(self, name: str, step: int, loss: Tensor, whole: Tensor | None = None) -> None:
        """Take note of a loss, a scalar on any device, without reading it.

        Args:
            whole: the step's loss in all, which must be a finite number, too.
        """
        loss = loss.detach()
        self._unread.append((name, step, loss, loss if whole is None else whole.detach()))

    def read(self) -> float:
        """Read what was added since the last reading.

        Returns:
            the mean of the tasks' losses among it; NaN if there are none.
        Raises:
            ModelError: the training diverged: a loss is no finite number.
        """
        if not self._unread:
            return math.nan
        pairs = torch.stack([torch.stack(each[2:]) for each in self._unread]).float().tolist()
        of_tasks = []
        for (name, step, *_), (value, whole) in zip(self._unread, pairs, strict=True):
            if not math.isfinite(value + whole):  # such a model could label nothing
                what = f"the loss of task '{name}'" if name in self._tasks else f"'{name}' loss"
                raise ModelError(
                    f"training diverged: {what} is {value:g} at step {step:,}; "
                    "lower the task's weight, or train by another preset or seed"
                )
            self._losses[name].append(value)
            if name in self._tasks:
                of_tasks.append(value)
        self._unread.clear()
        return float(np.mean(of_tasks)) if of_tasks else math.nan

    def means(self) -> dict[str, float]:
        """Mean loss by name, of those that have any."""
        return {name: float(np.mean(found)) for name, found in self._losses.items() if found}

    def losses(self) -> dict[str, list[float]]:
        """All losses that were read, by name, for a checkpoint."""
        return self._losses

    def restore(self, losses: Mapping[str, list[float]]) -> None:
        """Go on from the losses of a checkpoint."""
        self._losses.update({name: list(found) for name, found in losses.items()})

    def clear(self) -> None:
        """Begin the next epoch."""
        self._losses = {name: [] for name in self._losses}
