"""Models by name: the user's own in the models folder or an object store, and those shipped."""

import json
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from mtl_core.errors import ModelError, StoreError, UnknownModelError
from mtl_core.files import file_sha256
from mtl_core.model.config import CONFIG, TYPICALITY, WEIGHTS
from mtl_core.model.copies import local_copy
from mtl_core.storage.address import is_address, place_of
from mtl_core.storage.folder import Folder
from mtl_core.storage.place import Place
from mtl_core.suggest import did_you_mean

SHIPPED_MODELS = Path(__file__).parents[1] / "models"
DEFAULT_MODEL = "default"
NAME_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True)
class ModelEntry:
    """A model that can be used by name."""

    name: str
    home: Place
    """Where it is kept."""
    shipped: bool
    copies: Path | None = None
    """Folder that a model of an object store is copied to."""

    @cached_property
    def folder(self) -> Path:
        """The model's folder on this machine; a model of an object store is copied first.

        Raises:
            ModelError: the model is damaged, or ``copies`` is None and it must be copied.
            StoreError: the store refuses or does not answer.
        """
        if isinstance(self.home, Folder):
            return self.home.path
        if self.copies is None:
            raise ModelError(f"{self.home} must be copied to this machine first")
        return local_copy(self.home, self.copies)

    def config(self) -> dict[str, Any]:
        """Its ``config.json`` as plain JSON; loads no weights."""
        return self.read_json(CONFIG)

    def sha256(self) -> str:
        """SHA-256 of its ``model.safetensors``; names the model in specs and manifests."""
        try:
            return file_sha256(self.folder / WEIGHTS)
        except StoreError:
            raise
        except OSError as error:
            raise ModelError(f"model '{self.name}': {error.filename}: {error.strerror}") from error

    def typicality_sha256(self, model_sha256: str) -> str:
        """SHA-256 of its statistics of typicality; empty if it has none for these weights.

        Raises:
            ModelError: the file is damaged.
        """
        from mtl_core.model.typicality import read_typicality  # loads numpy

        if not read_typicality(self.folder, model_sha256):
            return ""
        return file_sha256(self.folder / TYPICALITY)

    def metrics(self) -> dict[str, Any]:
        """Official metrics by task as its training recorded them; empty when it recorded none."""
        if not self.home.has("metrics.json"):
            return {}
        return dict(self.read_json("metrics.json").get("official", {}))

    def read_json(self, name: str) -> dict[str, Any]:
        """One of its JSON files.

        Raises:
            ModelError: it is missing or cannot be read.
        """
        try:
            return dict(json.loads(self.home.read_text(name)))
        except StoreError:
            raise
        except (OSError, ValueError) as error:
            raise ModelError(f"{self.home.at(name)} cannot be read: {error}") from error


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


def list_models(models: Place | Path, copies: Path | None = None) -> list[ModelEntry]:
    """All models: the user's own sorted by name, then the shipped ones.

    Args:
        models: where the user's models are kept.
        copies: folder that models of an object store are copied to when they are used.
    """
    entries = []
    home = Folder(models) if isinstance(models, Path) else models
    for root, shipped in ((home, False), (Folder(SHIPPED_MODELS), True)):
        entries += [
            ModelEntry(name, root.below(name), shipped, copies)
            for name in root.folders()
            if root.has(f"{name}/config.json")
        ]
    return entries


def find_model(name: str, models: Place | Path, copies: Path | None = None) -> ModelEntry:
    """Find a model by name, or by the path or address of its directory.

    Args:
        models, copies: as for :func:`list_models`.
    Raises:
        UnknownModelError: there is no such model; the message lists the known ones.
        StoreError: an object store refuses or does not answer.
    """
    if name == DEFAULT_MODEL:  # found without asking a store
        return ModelEntry(name, Folder(SHIPPED_MODELS / name), shipped=True)
    entries = [] if is_address(name) else list_models(models, copies)
    for entry in entries:
        if entry.name == name:
            return entry
    home = place_of(name)
    if home.has(CONFIG) and home.has(WEIGHTS):
        home = Folder(home.path.resolve()) if isinstance(home, Folder) else home
        return ModelEntry(name, home, shipped=False, copies=copies)
    known = list(dict.fromkeys(e.name for e in entries or list_models(models, copies)))
    hint = did_you_mean(name, known, behind=" ")
    raise UnknownModelError(
        f"no model named '{name}'; {hint}there are: {', '.join(known) or 'none'}"
    )
