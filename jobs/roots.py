"""Configured roots: the folders below which jobs may read and write (``MTL_ROOTS``)."""

import os
from pathlib import Path

from jobs.settings import Settings
from mtl_core.errors import SettingsError
from mtl_core.registry import SHIPPED_MODELS


def check_inside(path: str | Path, settings: Settings) -> Path:
    """Return the path with symbolic links and ``..`` resolved, if it lies below a root.

    Shipped models and the state folder may always be read.

    Raises:
        SettingsError: it lies below none of the configured roots.
    """
    real = Path(os.path.realpath(path))
    if settings.roots is None:
        return real
    given = [Path(os.path.realpath(root)) for root in settings.roots.split(os.pathsep) if root]
    own = [Path(os.path.realpath(root)) for root in (SHIPPED_MODELS, settings.state_dir)]
    if any(real.is_relative_to(root) for root in (*given, *own, settings.models)):
        return real
    raise SettingsError(
        f"{path} lies outside the folders that jobs may use (MTL_ROOTS={settings.roots})"
    )
