"""Configured roots: folders and addresses below which jobs may read and write (``MTL_ROOTS``)."""

import os
import re
from pathlib import Path

from jobs.settings import Settings
from mtl_core.errors import SettingsError
from mtl_core.model.config import read_model_config
from mtl_core.model.copies import local_copy
from mtl_core.model.registry import SHIPPED_MODELS
from mtl_core.storage.address import PATIENCE_S, is_address, place_of
from mtl_core.storage.folder import Folder
from mtl_core.storage.place import Place

# As in PATH, but the colon of s3:// separates nothing.
SEPARATOR = re.compile(rf"{os.pathsep}(?!//)")


def check_inside(path: str | Path, settings: Settings) -> Path:
    """Return the path with symbolic links and ``..`` resolved, if it lies below a root.

    Shipped models and the state folder may always be read.

    Raises:
        SettingsError: it lies below none of the configured roots.
    """
    real = Path(os.path.realpath(path))
    if settings.roots is None:
        return real
    own: list[Path] = [SHIPPED_MODELS, settings.state_dir]
    if isinstance(settings.models, Folder):
        own.append(settings.models.path)
    roots = [root for root in SEPARATOR.split(settings.roots) if root and not is_address(root)]
    if any(real.is_relative_to(os.path.realpath(root)) for root in (*roots, *own)):
        return real
    raise _outside(path, settings)


def check_address(address: str, settings: Settings) -> str:
    """Return an address (``s3://…``, ``https://…``) if it lies below a root.

    Raises:
        SettingsError: it lies below none of the configured roots.
    """
    if settings.roots is None:
        return address
    given = [root for root in SEPARATOR.split(settings.roots) if is_address(root)]
    roots = [root.rstrip("/") for root in (*given, str(settings.models)) if is_address(root)]
    steps = address.partition("?")[0].split("/")
    below = any(address == root or address.startswith(f"{root}/") for root in roots)
    if below and ".." not in steps:
        return address
    raise _outside(address, settings)


def place_inside(where: str, settings: Settings, patience_s: float = PATIENCE_S) -> Place:
    """The place of a path or an address, if it lies below a root.

    Raises:
        SettingsError: it lies below none of the configured roots, or is no valid address.
    """
    if is_address(where):
        place = place_of(where, patience_s)
        check_address(str(place), settings)
        return place
    return Folder(check_inside(where, settings))


def model_folder(
    where: str, sha256: str, settings: Settings, patience_s: float = PATIENCE_S
) -> Path:
    """A model directory on this machine, if it lies below a root; one in a store is copied first.

    Args:
        sha256: of the weights wanted.
    Raises:
        SettingsError: it lies below none of the configured roots.
        ModelError: it is damaged or not there.
        StoreError: its store refuses or does not answer.
    """
    place = place_inside(where, settings, patience_s)
    folder = (
        place.path
        if isinstance(place, Folder)
        else local_copy(place, settings.model_copies, sha256)
    )
    check_backbone_inside(read_model_config(folder).backbone, settings)
    return folder


def check_backbone_inside(backbone: str, settings: Settings) -> None:
    """Raise SettingsError if a backbone is a folder that lies below none of the configured roots.

    A backbone that is no folder is a name: it comes from an installed package or the hub.
    """
    if Path(backbone).expanduser().is_dir():
        check_inside(Path(backbone).expanduser(), settings)


def _outside(where: str | Path, settings: Settings) -> SettingsError:
    return SettingsError(
        f"{where} lies outside the folders that jobs may use (MTL_ROOTS={settings.roots})"
    )
