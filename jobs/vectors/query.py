"""Texts to search for, embedded by the model that made an output."""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from jobs.output.maker import made_by
from jobs.output.manifest import Manifest
from jobs.settings import Settings
from mtl_core.engine.base import Engine
from mtl_core.engine.choose import EngineName
from mtl_core.errors import ModelError


def embed(manifest: Manifest, texts: Sequence[str], settings: Settings) -> NDArray[np.float32]:
    """Embed texts by the model that made an output; unit vectors, float32 [Q, E].

    The model is loaded once in a process.

    Raises:
        ModelError: the model is not on this machine any more.
    """
    engine = _engine(maker_of(manifest, settings), settings.engine, settings.engines)
    vectors: NDArray[np.float32] = engine.label(texts, lambda done: None).embeddings
    return vectors


def maker_of(manifest: Manifest, settings: Settings) -> Path:
    """The folder of the model that made an output.

    Raises:
        ModelError: it is not on this machine any more.
    """
    found = made_by(manifest, settings)
    if found is None:
        old = manifest.model
        raise ModelError(
            f"model '{old.name}' ({old.sha256[:12]}…), which made the embeddings, is not here any "
            "more; put its folder back, search by --like ROW_ID, or `mtl relabel` the output with "
            "a model of `mtl models`"
        )
    return found


@lru_cache(maxsize=2)
def _engine(folder: Path, name: EngineName, cache: Path) -> Engine:
    from mtl_core.engine.load import load_engine

    # One thread: a query is short, and engines of all cores are tied to them, reading threads too.
    return load_engine(folder, name, cache=cache, threads=1)
