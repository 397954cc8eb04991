"""Which engine labels on this machine."""

from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from mtl_core.engine import Engine
from mtl_core.errors import ModelError
from mtl_core.pulse import Pulse, no_pulse, with_pulse

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
        from mtl_core.precision import best_device, supports_bfloat16

        capable = supports_bfloat16(best_device())
    return "bfloat16" if capable else "float32"


def has_gpu() -> bool:
    """Whether there is a GPU; torch is asked only where a driver is, since it takes seconds."""
    if not Path("/dev/nvidiactl").exists():
        return False
    import torch

    return torch.cuda.is_available()


def load_engine(
    folder: Path,
    engine: EngineName = "auto",
    precision: str = "auto",
    *,
    cache: Path,
    threads: int | None = None,
    calibration: Sequence[str] = (),
    pulse: Pulse = no_pulse,
) -> Engine:
    """Load a model directory into an engine.

    Args:
        cache: where exported graphs are kept.
        threads: to compute on; torch's are set for the whole process.
        calibration: texts like those to come; used in int8 alone, whose ranges they give.
        pulse: called every few seconds; an exception it raises ends the loading.
    Raises:
        ModelError: the directory is incomplete or damaged, or the engine is not installed.
        BackboneError: its backbone is missing or is not the one it was trained on.
    """
    if choose_engine(engine) == "openvino":
        from mtl_core.openvino_engine import OpenVinoEngine

        return OpenVinoEngine(
            *(folder, cache, precision, threads), calibration=calibration, pulse=pulse
        )
    with_pulse(pulse, import_module, "mtl_core.torch_engine")
    import torch

    from mtl_core.checkpoint import load_model
    from mtl_core.torch_engine import TorchEngine

    if threads is not None:
        torch.set_num_threads(threads)
    return with_pulse(pulse, lambda: TorchEngine(load_model(folder), precision))
