"""``mtl models``."""

from typing import Any

import click
from rich.table import Table

from jobs.cli.shared.common import json_option, print_json
from jobs.cli.shared.plain import cell, print_table
from jobs.settings import settings
from mtl_core.model.registry import ModelEntry, list_models


@click.command()
@json_option
def models(as_json: bool) -> None:
    """List the models that can be used by name, with their official accuracy.

    \b
    Example:
      mtl models --json
    """
    entries = list_models(settings().models, settings().model_copies)
    if as_json:
        print_json([_describe(entry) for entry in entries])
        return
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in ("model", "tasks (accuracy)", "backbone", "folder"):
        table.add_column(name, overflow="fold")
    for entry in entries:
        config, metrics = entry.config(), entry.metrics()
        tasks = ", ".join(
            f"{task['name']} ({metrics[task['name']]['accuracy']:.3f})"
            if task["name"] in metrics
            else task["name"]
            for task in config["tasks"]
        )
        folder = "shipped" if entry.shipped else str(entry.home)
        table.add_row(*map(cell, (entry.name, tasks, config["backbone"], folder)))
    print_table(table)


def _describe(entry: ModelEntry) -> dict[str, Any]:
    config = entry.config()
    return {
        "name": entry.name,
        "path": str(entry.home),
        "shipped": entry.shipped,
        "backbone": config["backbone"],
        "tasks": {task["name"]: task["labels"] for task in config["tasks"]},
        "metrics": entry.metrics(),
    }
