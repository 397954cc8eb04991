"""The weights that a run changes: their moving average, and what a checkpoint keeps of them."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.swa_utils import get_ema_multi_avg_fn


class TrainedWeights:
    """The trained parameters of a model by name, and their moving average if it is asked for."""

    def __init__(self, model: nn.Module, names: Iterable[str], *, average: bool) -> None:
        parameters = dict(model.named_parameters())
        self.own = {name: parameters[name] for name in names}
        self.average: dict[str, Tensor] = {}
        if average:
            self.average = {name: p.detach().clone() for name, p in self.own.items()}

    @torch.no_grad()
    def update_average(self, share: float) -> None:
        """Move the average by a share of the way towards the current weights."""
        if self.average:
            move = get_ema_multi_avg_fn(1 - share)  # all tensors of a kind by one kernel
            move(list(self.average.values()), [self.own[name] for name in self.average], None)

    @torch.no_grad()
    def take_average(self) -> None:
        """Put the average into the model, for good."""
        for name, average in self.average.items():
            self.own[name].copy_(average)

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Put the average into the model for as long as the context lasts."""
        with torch.no_grad():
            before = {name: self.own[name].detach().clone() for name in self.average}
            self.take_average()
            try:
                yield
            finally:
                for name, value in before.items():
                    self.own[name].copy_(value)

    def tensors(self, optimizer: Optimizer) -> dict[str, Tensor]:
        """All tensors that the next step depends on: weights, AdamW's moments, the average.

        Their names hold the parameters' names; those in ``optimizer.state_dict`` are numbers.
        """
        found: dict[str, Tensor] = {}
        for name, parameter in self.own.items():
            found[f"parameter.{name}"] = parameter.detach().cpu()
            for key, value in optimizer.state[parameter].items():
                found[f"{key}.{name}"] = value.detach().cpu()
        for name, average in self.average.items():
            found[f"average.{name}"] = average.cpu()
        return found

    @torch.no_grad()
    def restore(self, optimizer: Optimizer, tensors: Mapping[str, Tensor]) -> None:
        """Put tensors that :meth:`tensors` gave back into model, average and optimizer."""
        for key, value in tensors.items():
            kind, _, name = key.partition(".")
            if kind == "parameter":
                self.own[name].copy_(value)
            elif kind == "average":
                self.average[name].copy_(value)
            else:
                parameter = self.own[name]
                optimizer.state[parameter][kind] = value.clone().to(parameter.device)
