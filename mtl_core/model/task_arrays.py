"""Arrays by task in one file of a model's folder, marked with what they belong to."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from mtl_core.errors import ModelError
from mtl_core.files import replace_file, temporary_beside

Array = NDArray[np.generic]


def write_arrays(
    path: Path, tasks: Mapping[str, Mapping[str, Array]], mark: Mapping[str, str]
) -> None:
    """Write the arrays of all tasks, by task and name, whole or not at all.

    Args:
        mark: a name and a value, such as the SHA-256 of the weights that the arrays are of.
    """
    tensors = {
        f"{task}.{name}": np.ascontiguousarray(values)
        for task, arrays in tasks.items()
        for name, values in arrays.items()
    }
    temporary = temporary_beside(path)
    save_file(tensors, str(temporary), metadata=dict(mark))
    replace_file(temporary, path)


def read_arrays(
    path: Path, names: Sequence[str], mark: Mapping[str, str]
) -> dict[str, list[Array]]:
    """The arrays of each task, in the order of ``names``; empty if there is no file of that mark.

    Raises:
        ModelError: the file is damaged.
    """
    if not path.is_file():
        return {}
    try:
        with safe_open(str(path), framework="np") as stream:
            if not mark.items() <= (stream.metadata() or {}).items():
                return {}
            keys = list(stream.keys())
            tasks = dict.fromkeys(key.rpartition(".")[0] for key in keys)
            return {task: [stream.get_tensor(f"{task}.{n}") for n in names] for task in tasks}
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{path} cannot be read: {error}") from error
