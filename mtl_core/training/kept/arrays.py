"""Arrays in files: made whole or not at all, and mapped instead of held in memory."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from mtl_core.files import temporary_beside


@contextmanager
def made(path: Path) -> Iterator[Path]:
    """A temporary path to write a file to; the file is renamed to ``path`` at the context's end.

    After an exception nothing is left: activations of a large split take gigabytes.
    """
    building = temporary_beside(path)
    try:
        yield building
        building.replace(path)
    finally:
        building.unlink(missing_ok=True)


def new_array(path: Path, shape: tuple[int, int]) -> np.memmap:
    """A ``.npy`` file to fill, float16: mapped, so that memory does not grow with it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return np.lib.format.open_memmap(str(path), mode="w+", dtype=np.float16, shape=shape)
