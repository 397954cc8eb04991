"""Models by name: the user's own in the models folder, and ``default``, which is shipped."""

import json
import re
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from mtl_core.errors import ModelError, UnknownModelError
from mtl_core.files import file_sha256

SHIPPED_MODELS = Path(__file__).parent / "models"
DEFAULT_MODEL = "default"
NAME_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True)
class ModelEntry:
    """A model that can be used by name."""

    name: str
    folder: Path
    shipped: bool

    def config(self) -> dict[str, Any]:
        """Its ``config.json`` as plain JSON; loads no weights."""
        return _read_json(self.folder / "config.json")

    def sha256(self) -> str:
        """SHA-256 of its ``model.safetensors``; names the model in specs and manifests."""
        try:
            return file_sha256(self.folder / "model.safetensors")
        except OSError as error:
            raise ModelError(f"model '{self.name}': {error.filename}: {error.strerror}") from error

    def metrics(self) -> dict[str, Any]:
        """Official metrics by task as its training recorded them; empty when it recorded none."""
        path = self.folder / "metrics.json"
        return dict(_read_json(path).get("official", {})) if path.is_file() else {}


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} cannot be read: {error}") from error


def check_name(name: str) -> str:
    """Return ``name`` if it can name a new model.

    Raises:
        ModelError: not a plain name, or the name of a shipped model.
    """
    if not NAME_PATTERN.fullmatch(name):
        raise ModelError(
            f"'{name}' cannot name a model; use letters, digits, '.', '_' and '-', at most 64"
        )
    if (SHIPPED_MODELS / name).is_dir():
        raise ModelError(f"'{name}' is a shipped model; give the new one another name")
    return name


def list_models(models_dir: Path) -> list[ModelEntry]:
    """All models, the user's first, by name."""
    entries = []
    for root, shipped in ((models_dir, False), (SHIPPED_MODELS, True)):
        if root.is_dir():
            entries += [
                ModelEntry(folder.name, folder, shipped)
                for folder in sorted(root.iterdir())
                if (folder / "config.json").is_file()
            ]
    return entries


def find_model(name: str, models_dir: Path) -> ModelEntry:
    """Find a model by name, or by the path of its directory.

    Raises:
        UnknownModelError: neither; the message lists what there is.
    """
    for entry in list_models(models_dir):
        if entry.name == name:
            return entry
    folder = Path(name).expanduser()
    if (folder / "config.json").is_file() and (folder / "model.safetensors").is_file():
        return ModelEntry(name, folder.resolve(), shipped=False)
    known = [entry.name for entry in list_models(models_dir)]
    close = get_close_matches(name, known, n=1)
    hint = f"did you mean '{close[0]}'? " if close else ""
    raise UnknownModelError(
        f"no model named '{name}'; {hint}there are: {', '.join(known) or 'none'}"
    )
