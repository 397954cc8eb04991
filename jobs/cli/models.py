"""``mtl models`` and ``mtl evaluate``."""

from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from jobs.cli.common import json_option, print_json
from jobs.settings import settings
from mtl_core.registry import ModelEntry, find_model, list_models


@click.command()
@json_option
def models(as_json: bool) -> None:
    """List the models that can be used by name, with their official accuracy.

    \b
    Example:
      mtl models --json
    """
    entries = list_models(settings().models)
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
        folder = "shipped" if entry.shipped else str(entry.folder)
        table.add_row(entry.name, tasks, config["backbone"], folder)
    console = Console()
    console.print(table) if console.is_terminal else Console(width=200).print(table)


def _describe(entry: ModelEntry) -> dict[str, Any]:
    config = entry.config()
    return {
        "name": entry.name,
        "path": str(entry.folder),
        "shipped": entry.shipped,
        "backbone": config["backbone"],
        "tasks": {task["name"]: task["labels"] for task in config["tasks"]},
        "metrics": entry.metrics(),
    }


@click.command()
@click.argument("model")
@click.option(
    "--data",
    metavar="DIR",
    help="Folder with ag_news/ and sst2/ as Parquet. [default: MTL_DATA_DIR, else the hub]",
)
@json_option
def evaluate(model: str, data: str | None, as_json: bool) -> None:
    """Score a model on the official split of each task, in this process.

    Accuracy, and macro-averaged precision, recall and F1: AG News' test split for topic, SST-2's
    validation split for sentiment.

    \b
    Example:
      mtl evaluate default --data data/
    """
    entry = find_model(model, settings().models)
    data_dir = Path(data).expanduser() if data else settings().data_dir
    from mtl_core.checkpoint import load_model
    from mtl_core.evaluate import evaluate_model
    from mtl_core.metrics import headline
    from mtl_core.precision import best_device

    loaded = load_model(entry.folder)
    scores = evaluate_model(
        loaded.model.to(best_device()),
        loaded.tokenizer,
        data_dir,
        precision=settings().precision,
        report=lambda task: click.echo(f"scoring {task} …", err=True),
    )
    figures = {task: headline(metrics) for task, metrics in scores.items()}
    if as_json:
        print_json(figures)
        return
    for task, values in figures.items():
        click.echo(
            f"{task}: accuracy {values['accuracy']:.4f}, precision {values['precision']:.4f}, "
            f"recall {values['recall']:.4f}, F1 {values['f1']:.4f} ({values['rows']:,} rows)"
        )
