"""A backbone's transformer layers: find them, and keep only some."""

from collections.abc import Sequence
from typing import Any

from torch import nn

from mtl_core.errors import ModelError


def transformer_layers(backbone: nn.Module) -> nn.ModuleList:
    """Find the backbone's stack of transformer layers by structure: its longest uniform ModuleList.

    Raises:
        ModelError: the backbone has no list of at least two layers of one class.
    """
    candidates = [
        module
        for module in backbone.modules()
        if isinstance(module, nn.ModuleList)
        and len(module) > 1
        and len({type(layer) for layer in module}) == 1
    ]
    if not candidates:
        raise ModelError(
            f"{type(backbone).__name__} has no list of transformer layers, so that it cannot be "
            "told which are last: use another scenario"
        )
    return max(candidates, key=len)


def evenly(layers: int, kept: int) -> tuple[int, ...]:
    """Which of so many layers to keep, evenly taken, the last one among them.

    Every second layer is what DistilBERT keeps (Sanh et al. 2019).

    Raises:
        ModelError: there are not so many layers.
    """
    if kept > layers:
        raise ModelError(f"the backbone has {layers} layers, --keep-layers asks for {kept}")
    return tuple(layers * (number + 1) // kept - 1 for number in range(kept))


def keep_layers(backbone: Any, kept: Sequence[int]) -> None:
    """Take all layers but some out of a backbone.

    Args:
        kept: layers to keep, from 0, in order.
    Raises:
        ModelError: there is no such layer, or the layers cannot be told.
    """
    layers = transformer_layers(backbone)
    if kept and not 0 <= min(kept) <= max(kept) < len(layers):
        raise ModelError(f"the backbone has {len(layers)} layers; there is no layer {max(kept)}")
    for number in reversed(range(len(layers))):
        if number not in kept:
            del layers[number]
    backbone.config.num_hidden_layers = len(layers)
