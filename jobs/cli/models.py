"""``mtl models``, ``mtl evaluate`` and ``mtl embed``."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.table import Table

from jobs.cli import complete
from jobs.cli.common import json_option, print_json
from jobs.cli.plain import cell, plain
from jobs.settings import settings
from mtl_core.registry import DEFAULT_MODEL, ModelEntry, find_model, list_models

if TYPE_CHECKING:
    from mtl_core.evaluate import Evaluation


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
    console = Console()
    console.print(table) if console.is_terminal else Console(width=200).print(table)


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


@click.command()
@click.argument("model", shell_complete=complete.models)
@click.option(
    "--data",
    metavar="DIR",
    help="Folder with ag_news/, sst2/ and stsb/ as Parquet. [default: MTL_DATA_DIR, else the hub]",
)
@click.option("--samples", is_flag=True, help="Also print some predictions, mistakes first.")
@json_option
def evaluate(model: str, data: str | None, samples: bool, as_json: bool) -> None:
    """Score a model on the official split of each task, in this process.

    Accuracy, and macro-averaged precision, recall and F1: AG News' test split for topic, SST-2's
    validation split for sentiment. Expected calibration error (ECE, 15 bins) of the scores before
    and after calibration. Spearman's correlation of the embedding's cosine on STS-B's validation
    split, where the data is there.

    \b
    Example:
      mtl evaluate default --data data/
    """
    entry = find_model(model, settings().models, settings().model_copies)
    data_dir = Path(data).expanduser() if data else settings().data_dir
    from jobs.training_data import split_loader
    from mtl_core.checkpoint import load_model
    from mtl_core.engines import choose_precision
    from mtl_core.precision import best_device
    from mtl_core.train_run import evaluate_trained

    loaded = load_model(entry.folder)
    training = entry.config().get("training", {})
    found = evaluate_trained(
        loaded.model.to(best_device()),
        data_dir,
        training,
        load_split=split_loader(data_dir, trained_on=training.get("files", {})),
        precision=choose_precision("torch", settings().precision),
        report=lambda task: click.echo(f"scoring {task} …", err=True),
    )
    if as_json:
        print_json(found.as_dict())
    else:
        _print_evaluation(found, samples)


def _print_evaluation(found: "Evaluation", samples: bool) -> None:
    for task, metrics in found.official.items():
        ece = found.calibration[task]
        click.echo(
            f"{task}: accuracy {metrics['accuracy']:.4f}, precision {metrics['precision']:.4f}, "
            f"recall {metrics['recall']:.4f}, F1 {metrics['f1']:.4f}; "
            f"ECE {ece['ece_before']:.4f} → {ece['ece_after']:.4f}, "
            f"by chance {ece['ece_by_chance']:.4f} "
            f"({metrics['rows']:,} rows, {metrics['split']})"
        )
        for note in metrics.get("notes", ()):
            click.echo(f"  {note}")
        unseen = metrics.get("unseen", {})
        if unseen.get("accuracy") is not None and unseen["rows"] < metrics["rows"]:
            click.echo(
                f"  of these, {unseen['rows']:,} rows share no run of eight words with the rows "
                f"trained on: accuracy {unseen['accuracy']:.4f}"
            )
    for task, metrics in found.zero_shot.items():
        click.echo(f"{task} zero-shot, by descriptions: accuracy {metrics['accuracy']:.4f}")
    if found.stsb is not None:
        click.echo(f"STS-B: Spearman {found.stsb['spearman']:.4f} ({found.stsb['pairs']:,} pairs)")
    if samples:
        for task, rows in found.samples.items():
            click.echo(f"\n{task}:")
            for row in rows:
                mark = "ok   " if row["expected"] == row["predicted"] else "WRONG"
                click.echo(
                    f"  {mark} {row['predicted']} {row['score']:.2f} "
                    f"(is {row['expected']}): {plain(row['text'][:100])}"
                )


@click.command()
@click.argument("texts", nargs=-1, required=True, metavar="TEXT…")
@click.option(
    "--model",
    default=DEFAULT_MODEL,
    show_default=True,
    help="A name, see `mtl models`.",
    shell_complete=complete.models,
)
@json_option
def embed(texts: tuple[str, ...], model: str, as_json: bool) -> None:
    """Print the embedding of each TEXT, its labels, and the cosines between the texts.

    \b
    Example:
      mtl embed "A dull film." "A boring movie." "Shares fell."
    """
    entry = find_model(model, settings().models, settings().model_copies)
    from mtl_core.checkpoint import load_model

    loaded = load_model(entry.folder).model
    vectors, answers = loaded.encode(texts), loaded.predict(texts)
    cosines = vectors @ vectors.T
    if as_json:
        print_json(
            [
                {"text": text, **answer, "embedding": [round(float(x), 6) for x in vector]}
                for text, answer, vector in zip(texts, answers, vectors, strict=True)
            ]
        )
        return
    for number, (text, answer, vector) in enumerate(zip(texts, answers, vectors, strict=True), 1):
        labels = ", ".join(
            f"{answer[t.name]} ({answer[f'{t.name}_score']:.2f})" for t in loaded.config.tasks
        )
        numbers = " ".join(f"{value:+.3f}" for value in vector[:8])
        click.echo(f"{number}. {plain(text)}\n   {labels}\n   [{numbers} …] {len(vector)} numbers")
    if len(texts) > 1:
        click.echo("cosines:")
        for row in cosines:
            click.echo("   " + " ".join(f"{value:+.3f}" for value in row))
