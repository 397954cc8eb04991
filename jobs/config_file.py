"""The configuration file: settings of this installation, and defaults of commands' options.

``mtl.toml`` in the current folder, else the user's own; ``MTL_CONFIG`` names another. Keys at the
top are settings (``MTL_…`` variables in small letters), tables are commands::

    redis_url = "redis://host:6379/0"
    engine = "torch"

    [label]
    embedding = "float16"

Imported by every command, so it loads nothing heavy.
"""

import os
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

from platformdirs import user_config_path

from mtl_core.errors import SettingsError

CONFIG_VARIABLE = "MTL_CONFIG"
FILE_NAME = "mtl.toml"


def config_file() -> Path | None:
    """The configuration file in use, or None.

    Raises:
        SettingsError: ``MTL_CONFIG`` names a file that is not there.
    """
    named = os.environ.get(CONFIG_VARIABLE)
    if named:
        path = Path(named).expanduser()
        if not path.is_file():
            raise SettingsError(f"{CONFIG_VARIABLE}={named}: no such file")
        return path
    places = (Path(FILE_NAME), user_config_path("mtl-batch") / FILE_NAME)
    return next((path for path in places if path.is_file()), None)


@cache
def read_config() -> dict[str, Any]:
    """What the configuration file says, read once; empty without one.

    Raises:
        SettingsError: the file cannot be read, or is no TOML.
    """
    path = config_file()
    if path is None:
        return {}
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SettingsError(f"{path}: cannot be read ({error})") from error


def file_settings() -> dict[str, Any]:
    """The file's settings: what stands in no table."""
    return {key: value for key, value in read_config().items() if not isinstance(value, dict)}


def file_options(command: str) -> dict[str, Any]:
    """The file's defaults for a command's options."""
    table = read_config().get(command, {})
    return dict(table) if isinstance(table, dict) else {}
