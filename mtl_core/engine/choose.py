"""Which engine labels on this machine, and in which precision."""

import os
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from mtl_core.errors import ModelError

DRIVER = Path("/dev/nvidiactl")
"""Is there where NVIDIA's driver is."""

EngineName = Literal["auto", "torch", "openvino"]


def choose_engine(wanted: EngineName) -> Literal["torch", "openvino"]:
    """The engine to use: torch on a GPU, else OpenVINO where it is installed, else torch.

    Raises:
        ModelError: OpenVINO is asked for by name and not installed.
    """
    installed = find_spec("openvino") is not None
    if wanted == "openvino" and not installed:
        raise ModelError("OpenVINO is not installed: pip install 'mtl-batch[openvino]'")
    if wanted != "auto":
        return wanted
    return "openvino" if installed and not has_gpu() else "torch"


def choose_precision(engine: Literal["torch", "openvino"], wanted: str) -> str:
    """The precision to compute in: on ``auto`` bfloat16 where the chip has it.

    Else float32, but float16 on a GPU, which has had that for longer.

    Raises:
        ModelError: int8, which only OpenVINO has, is wanted of torch, or float16 of a CPU.
    """
    if wanted == "int8" and engine != "openvino":
        raise ModelError("int8 runs on the engine openvino only; set MTL_ENGINE=openvino")
    if wanted == "float16" and not (engine == "torch" and has_gpu()):
        raise ModelError(
            "float16 runs on a GPU only, and torch finds none here; take --precision auto"
        )
    if wanted != "auto":
        return wanted
    if engine == "openvino":
        import openvino

        capable = "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    else:
        from mtl_core.model.precision import best_device, supports_bfloat16

        device = best_device()
        capable = supports_bfloat16(device)
        if not capable and device.type == "cuda":
            return "float16"
    return "bfloat16" if capable else "float32"


def has_gpu(driver: Path = DRIVER) -> bool:
    """Whether there is a GPU; torch is asked only where a driver is, since it takes seconds."""
    if not driver.exists():
        return False
    import torch

    return torch.cuda.is_available()


def card() -> str:
    """The name of the first GPU; empty if there is none."""
    if not has_gpu():
        return ""
    import torch

    return torch.cuda.get_device_name()


def gpu_trouble(driver: Path = DRIVER) -> str:
    """Why a GPU that this machine has cannot be used, in words; empty if it can, or there is none.

    A driver that is too old, or a torch without CUDA, would else be a CPU without a word.
    """
    if not driver.exists() or os.environ.get("CUDA_VISIBLE_DEVICES") == "" or has_gpu(driver):
        return ""
    import torch

    if torch.version.cuda is None:
        return f"this torch ({torch.__version__}) was built without CUDA"
    try:
        torch.cuda.init()
    except Exception as error:  # whatever the driver says
        return str(error).strip().split(". ")[0]
    return "torch finds no card"
