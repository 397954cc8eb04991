"""Load a model directory into the engine that this machine labels with."""

import logging
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from mtl_core.engine.base import Engine
from mtl_core.engine.choose import EngineName, choose_engine, gpu_trouble
from mtl_core.pulse import Pulse, no_pulse, with_pulse

log = logging.getLogger(__name__)


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
        cache: folder of exported graphs.
        threads: how many threads compute; torch's number is set for the whole process.
        calibration: texts like those to be labelled; only int8 uses them, to measure ranges.
        pulse: called every few seconds; an exception it raises ends the loading.
    Raises:
        ModelError: the directory is incomplete or damaged, or the engine is not installed.
        BackboneError: the backbone is missing, or is not the one the model was trained on.
    """
    if engine == "auto" and (trouble := gpu_trouble()):
        log.warning("this machine's GPU is not used: %s", trouble)
    if choose_engine(engine) == "openvino":
        from mtl_core.engine.openvino_engine import OpenVinoEngine

        return OpenVinoEngine(
            *(folder, cache, precision, threads), calibration=calibration, pulse=pulse
        )
    with_pulse(pulse, import_module, "mtl_core.engine.torch_engine")
    import torch

    from mtl_core.engine.torch_engine import TorchEngine
    from mtl_core.model.network import load_model

    if threads is not None:
        torch.set_num_threads(threads)
    return with_pulse(pulse, lambda: TorchEngine(load_model(folder), precision))
