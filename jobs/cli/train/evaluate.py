"""``mtl evaluate``."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from jobs.cli.shared import complete
from jobs.cli.shared.common import json_option, print_json
from jobs.cli.shared.plain import plain
from jobs.settings import settings
from mtl_core.config import LABEL_PRECISIONS, LabelPrecision
from mtl_core.model.registry import find_model

if TYPE_CHECKING:
    from mtl_core.evaluation.evaluate import Evaluation


@click.command()
@click.argument("model", shell_complete=complete.models)
@click.option(
    "--data",
    metavar="DIR",
    help="Folder with ag_news/, sst2/ and stsb/ as Parquet. [default: MTL_DATA_DIR, else the hub]",
)
@click.option(
    "--precision",
    type=click.Choice(LABEL_PRECISIONS),
    default="auto",
    show_default=True,
    help="What to compute in; auto: MTL_PRECISION, else as for `mtl label`. int8 is calibrated on "
    "texts of the splits.",
)
@click.option("--samples", is_flag=True, help="Also print some predictions, mistakes first.")
@json_option
def evaluate(
    model: str, data: str | None, precision: LabelPrecision, samples: bool, as_json: bool
) -> None:
    """Score a model on the official split of each task, in this process.

    The answers are those of the engine that labels on this machine (MTL_ENGINE, MTL_THREADS).

    Accuracy, and macro-averaged precision, recall and F1: AG News' test split for topic, SST-2's
    validation split for sentiment. Expected calibration error (ECE, 15 bins) of the scores before
    and after calibration. Spearman's correlation of the embedding's cosine on STS-B's validation
    split, where the data is there.

    \b
    Example:
      mtl evaluate default --data data/
    """
    config = settings()
    entry = find_model(model, config.models, config.model_copies)
    data_dir = Path(data).expanduser() if data else config.data_dir
    from jobs.train.data import split_loader
    from mtl_core.engine.load import load_engine
    from mtl_core.evaluation.answers import EngineAnswers
    from mtl_core.evaluation.evaluate import calibration_texts, no_data
    from mtl_core.model.config import read_model_config
    from mtl_core.training.score import evaluate_trained

    training = entry.config().get("training", {})
    load_split = split_loader(data_dir, trained_on=training.get("files", {}))
    if precision == "auto":
        precision = config.precision
    tasks = read_model_config(entry.folder).tasks
    engine = load_engine(
        *(entry.folder, config.engine, precision),
        cache=config.engines,
        threads=config.threads,
        calibration=calibration_texts(tasks, load_split) if precision == "int8" else (),
    )
    found = evaluate_trained(
        EngineAnswers(engine),
        data_dir,
        training,
        load_split=load_split,
        report=lambda task: click.echo(f"scoring {task} …", err=True),
    )
    if left := no_data(tasks):
        click.echo(f"{left}; check rows of an output instead: mtl review, mtl audit", err=True)
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
    click.echo(f"computed by {found.computed['engine']} in {found.computed['precision']}")
    if samples:
        for task, rows in found.samples.items():
            click.echo(f"\n{task}:")
            for row in rows:
                mark = "ok   " if row["expected"] == row["predicted"] else "WRONG"
                click.echo(
                    f"  {mark} {row['predicted']} {row['score']:.2f} "
                    f"(is {row['expected']}): {plain(row['text'][:100])}"
                )
