"""What the shell's Tab offers: files, models, jobs, scenarios, tasks.

Imported by commands for their options; what is looked up is imported only when Tab is pressed.
If anything goes wrong then, nothing is offered: an error would garble the line being typed.
"""

from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import TYPE_CHECKING, cast

import click
from click.shell_completion import CompletionItem

if TYPE_CHECKING:
    from mtl_core.model.registry import ModelEntry

REDIS_PATIENCE_S = 0.5
MOST_JOBS = 100

Completer = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]


def files(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Leaves it to the shell, which knows files best."""
    return [CompletionItem(incomplete, type="file")]


def _offer(names: Callable[[], Iterable[str]], *, or_files: bool = False) -> Completer:
    def complete(
        context: click.Context, parameter: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        found: list[str] = []
        with suppress(Exception):
            found = [name for name in names() if name.startswith(incomplete)]
        if or_files and not found:
            return files(context, parameter, incomplete)
        return [CompletionItem(name) for name in found]

    return complete


def _entries() -> "list[ModelEntry]":
    """Models of this machine; a store might take too long to answer."""
    from jobs.settings import settings
    from mtl_core.model.registry import list_models
    from mtl_core.storage.folder import Folder

    models = settings().models
    return list_models(models if isinstance(models, Folder) else settings().state_dir / "models")


def _models() -> list[str]:
    return [entry.name for entry in _entries()]


def _jobs() -> list[str]:
    """Jobs of a shared Redis. An embedded one would have to be started for this."""
    from jobs.settings import settings

    url = settings().redis_url
    if url is None:
        return []
    from jobs.ledger.connection import client
    from jobs.ledger.records import JOBS

    found = client(url, patience=0, timeout_s=REDIS_PATIENCE_S)
    return cast(list[str], found.zrevrange(JOBS, 0, MOST_JOBS - 1))


def _scenarios() -> list[str]:
    from mtl_core.training.scenario_names import COMMANDS

    return list(COMMANDS)


def _tasks() -> list[str]:
    return sorted({task["name"] for entry in _entries() for task in entry.config()["tasks"]})


models = _offer(_models)
jobs = _offer(_jobs)
jobs_or_folders = _offer(_jobs, or_files=True)
scenarios = _offer(_scenarios)
tasks = _offer(_tasks)
