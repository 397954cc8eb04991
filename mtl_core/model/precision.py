"""The device and the number format to compute with on this machine."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

HALF = {"bfloat16": torch.bfloat16, "float16": torch.float16}
"""Number formats of half the size, by their names as precisions."""


def supports_bfloat16(device: torch.device) -> bool:
    """Whether bfloat16 matrix products run in hardware on ``device``."""
    if device.type == "cuda":
        # A card before Ampere has no such products; torch would compute them another way, slowly.
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "cpu":
        capability = torch.cpu.get_capabilities()
        return bool(capability.get("avx512_bf16") or capability.get("amx_bf16"))
    return False


def on_device(values: Tensor, device: torch.device) -> Tensor:
    """A tensor of the CPU on a device, without waiting for what a GPU still has to do.

    From pinned memory the copy to a GPU is one more thing in its queue; from other memory the CPU
    would wait for it.
    """
    if device.type != "cuda":
        return values.to(device)
    return values.pin_memory().to(device, non_blocking=True)


Read = Callable[[], NDArray[np.float32]]
"""A function that waits for values of a device and gives them."""


def to_host(values: Tensor) -> Read:
    """Queue a copy of a tensor's values, as float32, behind what computes them."""
    values = values.float()
    if values.device.type != "cuda":
        return values.numpy
    landed = torch.empty(values.shape, pin_memory=True).copy_(values, non_blocking=True)
    copied = torch.cuda.Event()
    copied.record()

    def read() -> NDArray[np.float32]:
        copied.synchronize()
        found: NDArray[np.float32] = landed.numpy()
        return found

    return read


Item = TypeVar("Item")


def one_behind(items: Iterable[Item]) -> Iterator[Item]:
    """Items, each once the next one is there: so a batch is read while the next is computed."""
    waiting: list[Item] = []
    for item in items:
        yield from waiting
        waiting = [item]
    yield from waiting


def best_device() -> torch.device:
    """The first GPU when there is one, else the CPU."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    # cuDNN's attention makes a plan for each new shape of a batch, and texts make many shapes: on
    # an H100 the engine labelled 1.9 times as many rows without it (docs/performance.md).
    torch.backends.cuda.enable_cudnn_sdp(False)
    return torch.device("cuda")


def autocast(model: nn.Module, precision: str) -> AbstractContextManager[Any]:
    """An autocast for ``bfloat16`` and ``float16``; on ``auto`` bfloat16 where the chip has it.

    In all other cases a context that does nothing.
    """
    device = next(model.parameters()).device
    if precision == "auto" and supports_bfloat16(device):
        precision = "bfloat16"
    if precision in HALF:
        return torch.autocast(device_type=device.type, dtype=HALF[precision])
    return nullcontext()
