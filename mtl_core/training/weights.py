"""The weights that a run changes: their moving average, and what a checkpoint keeps of them."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.optim import Optimizer


class TrainedWeights:
    """Some of a model's parameters by name; with their average, where it is asked for."""

    def __init__(self, model: nn.Module, names: Iterable[str], *, average: bool) -> None:
        parameters = dict(model.named_parameters())
        self.own = {name: parameters[name] for name in names}
        self.average: dict[str, Tensor] = {}
        if average:
            self.average = {name: p.detach().clone() for name, p in self.own.items()}

    @torch.no_grad()
    def update_average(self, share: float) -> None:
        """Move the average by a share of the way towards the weights as they are."""
        for name, average in self.average.items():
            average.lerp_(self.own[name], share)

    @torch.no_grad()
    def take_average(self) -> None:
        """Put the average into the model, for good."""
        for name, average in self.average.items():
            self.own[name].copy_(average)

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """The average in the model for a while."""
        with torch.no_grad():
            before = {name: self.own[name].detach().clone() for name in self.average}
            self.take_average()
            try:
                yield
            finally:
                for name, value in before.items():
                    self.own[name].copy_(value)

    def tensors(self, optimizer: Optimizer) -> dict[str, Tensor]:
        """All that the next step depends on, by names: weights, AdamW's moments, the average.

        By the parameters' names and not, as ``optimizer.state_dict`` has them, by their numbers.
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
        """Take up what :meth:`tensors` gave."""
        for key, value in tensors.items():
            kind, _, name = key.partition(".")
            if kind == "parameter":
                self.own[name].copy_(value)
            elif kind == "average":
                self.average[name].copy_(value)
            else:
                optimizer.state[self.own[name]][kind] = value.clone()
