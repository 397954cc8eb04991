"""Read what a model directory records about its training."""

import json
from dataclasses import dataclass
from typing import Any

from mtl_core.errors import ModelError, StoreError
from mtl_core.model.registry import ModelEntry

NOT_SETTINGS = ("rows", "command", "data", "files", "notes", "teachers", "from")
"""Keys among a run's recorded settings that are no settings."""


@dataclass(frozen=True)
class ModelFacts:
    """What a model directory records about its model; plain JSON values."""

    name: str
    config: dict[str, Any]
    metrics: dict[str, Any]
    """``metrics.json``."""
    history: list[dict[str, Any]]
    """``history.json``: one record for each epoch."""

    @property
    def tasks(self) -> list[str]:
        """Names of the model's tasks, in order."""
        return list(self.metrics["official"])


def read_facts(entry: ModelEntry) -> ModelFacts:
    """Read what training recorded of a model.

    Raises:
        ModelError: the model has no metrics or history, or they cannot be read.
    """
    try:
        metrics = json.loads(entry.home.read_text("metrics.json"))
        history = json.loads(entry.home.read_text("history.json"))
    except StoreError:
        raise
    except (OSError, ValueError) as error:
        raise ModelError(f"model '{entry.name}' keeps no readable metrics: {error}") from error
    return ModelFacts(entry.name, entry.config(), metrics, history)
