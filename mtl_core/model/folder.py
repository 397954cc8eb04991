"""A model directory, which training makes and labelling reads: safetensors and JSON only.

``model.safetensors`` always holds projection, heads and scales. It holds backbone parameters only
if the scenario trained them, and then in half precision. ``config.json`` holds the rest that is
needed to rebuild the model, with the backbone's name and sha256.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from mtl_core.config import ModelConfig
from mtl_core.errors import ModelError
from mtl_core.files import replace_file, temporary_beside, write_json
from mtl_core.model.config import CONFIG, WEIGHTS, model_config_as_json


def write_model(
    folder: Path, config: ModelConfig, tensors: Mapping[str, Tensor], training: Mapping[str, Any]
) -> None:
    """Write ``model.safetensors``, then ``config.json``, each whole or not at all.

    Args:
        tensors: the weights to keep, by parameter name.
        training: settings of the run, kept in ``config.json`` as they are.
    """
    folder.mkdir(parents=True, exist_ok=True)
    weights = folder / WEIGHTS
    temporary = temporary_beside(weights)
    save_file(dict(tensors), str(temporary), metadata={"format": "pt"})
    replace_file(temporary, weights)
    write_json(folder / CONFIG, {**model_config_as_json(config), "training": dict(training)})


def read_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a safetensors file.

    Raises:
        ModelError: the file is missing, or is no complete safetensors file.
    """
    try:
        with safe_open(str(path), framework="pt") as stream:
            return {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{path} cannot be read: {error}") from error
