"""The device and the number format to compute with on this machine."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import nn


def supports_bfloat16(device: torch.device) -> bool:
    """Whether bfloat16 matrix products run in hardware on ``device``."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    if device.type == "cpu":
        capability = torch.cpu.get_capabilities()
        return bool(capability.get("avx512_bf16") or capability.get("amx_bf16"))
    return False


def best_device() -> torch.device:
    """The first GPU when there is one, else the CPU."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    # cuDNN's attention makes a plan for each new shape of a batch, and texts make many shapes: on
    # an H100 the engine labelled 1.9 times as many rows without it (docs/performance.md).
    torch.backends.cuda.enable_cudnn_sdp(False)
    return torch.device("cuda")


def autocast(model: nn.Module, precision: str) -> AbstractContextManager[Any]:
    """A bfloat16 autocast for ``bfloat16`` and, where the chip has it, for ``auto``.

    In all other cases a context that does nothing.
    """
    device = next(model.parameters()).device
    if precision == "bfloat16" or (precision == "auto" and supports_bfloat16(device)):
        return torch.autocast(device_type=device.type, dtype=torch.bfloat16)
    return nullcontext()
