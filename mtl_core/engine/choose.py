"""Which engine labels on this machine, and in which precision."""

from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from mtl_core.errors import ModelError

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
    """The precision to compute in: on ``auto`` bfloat16 where the chip has it, else float32.

    Raises:
        ModelError: int8, which only OpenVINO has, is wanted of torch.
    """
    if wanted == "int8" and engine != "openvino":
        raise ModelError("int8 runs on the engine openvino only; set MTL_ENGINE=openvino")
    if wanted != "auto":
        return wanted
    if engine == "openvino":
        import openvino

        capable = "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    else:
        from mtl_core.model.precision import best_device, supports_bfloat16

        capable = supports_bfloat16(best_device())
    return "bfloat16" if capable else "float32"


def has_gpu() -> bool:
    """Whether there is a GPU; torch is asked only where a driver is, since it takes seconds."""
    if not Path("/dev/nvidiactl").exists():
        return False
    import torch

    return torch.cuda.is_available()
