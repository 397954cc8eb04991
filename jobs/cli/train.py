"""``mtl train``."""

import shlex
from collections.abc import Mapping
from pathlib import Path

import click

from jobs.cli.common import (
    backend,
    json_option,
    print_json,
    priority_option,
    require_redis_for_detach,
)
from jobs.cli.watch import JobProgress, watch
from jobs.lifecycle import JobState
from jobs.messages import Publisher
from jobs.settings import settings
from jobs.specs import TrainSpec, job_id
from jobs.submit import submit_train
from mtl_core.config import DEFAULT_BACKBONE, PRESETS, train_config
from mtl_core.errors import DataError, JobError
from mtl_core.registry import ModelEntry, check_name
from mtl_core.scenario_names import SCENARIOS
from mtl_core.tasks import DEFAULT_TASKS

SCENARIO_HELP = "\n\n    \b\n    Scenarios:\n" + "\n".join(
    f"      {name:<22} {text}" for name, text in SCENARIOS.items()
)


@click.command(
    help=f"""Train a model on topic and sentiment together, and register it by name.

    Both tasks are in every epoch; the model is scored on the official splits at its end and can
    then be used by `mtl label --model NAME`. A run that was stopped goes on from its newest
    checkpoint.{SCENARIO_HELP}

    \b
    Examples:
      mtl train --scenario freeze-backbone --name quick --data data/
      mtl train --scenario last-layers --layers 2 --name transfer --preset reference
    """
)
@click.option("--scenario", required=True, type=click.Choice(list(SCENARIOS)), metavar="NAME")
@click.option("--name", required=True, metavar="MODEL", help="Name of the model to make.")
@click.option(
    "--data",
    metavar="DIR",
    help="Folder with ag_news/ and sst2/ as Parquet. [default: MTL_DATA_DIR, else the hub]",
)
@click.option(
    "--preset",
    type=click.Choice(list(PRESETS)),
    default="recommended",
    show_default=True,
    help="Settings to start from.",
)
@click.option("--layers", type=click.IntRange(1), help="Layers that `last-layers` trains. [2]")
@click.option("--epochs", type=click.IntRange(1), help="Epochs. [of the preset]")
@click.option("--seed", type=int, help="Seed of weights, batches and dropout. [13]")
@click.option(
    "--max-rows-per-task", type=click.IntRange(10), help="Train on a sample of this many rows."
)
@click.option("--backbone", default=DEFAULT_BACKBONE, show_default=True, help="Name or path.")
@priority_option
@click.option("--detach", is_flag=True, help="Queue the job, print its id, and return.")
@click.option("-q", "--quiet", is_flag=True, help="Print results and errors only.")
@json_option
def train(
    scenario: str,
    name: str,
    data: str | None,
    preset: str,
    layers: int | None,
    epochs: int | None,
    seed: int | None,
    max_rows_per_task: int | None,
    backbone: str,
    priority: str,
    detach: bool,
    quiet: bool,
    as_json: bool,
) -> None:
    """Train a model; the help text is given to the decorator."""
    if detach:
        require_redis_for_detach()
    given = {
        "layers": layers,
        "epochs": epochs,
        "seed": seed,
        "max_rows_per_task": max_rows_per_task,
    }
    changes: dict[str, int | float | str | bool | None] = {
        key: value for key, value in given.items() if value is not None
    }
    train_config(preset, scenario=scenario, **given)  # checks the values
    data_dir = Path(data).expanduser().absolute() if data else settings().data_dir
    check_data(data_dir)
    spec = TrainSpec(
        name=check_name(name),
        output=str((settings().models / name).absolute()),
        data_dir=str(data_dir) if data_dir else None,
        preset=preset,
        scenario=scenario,
        settings=changes,
        backbone=str(Path(backbone).absolute()) if Path(backbone).is_dir() else backbone,
        command=_command(scenario, name, preset, changes, backbone, data_dir is not None),
    )
    _run(spec, priority, detach=detach, quiet=quiet or as_json)
    if detach:
        print_json({"id": job_id(spec)}) if as_json else click.echo(job_id(spec))
    else:
        _print_result(spec, as_json)


def check_data(data_dir: Path | None) -> None:
    """Raise DataError unless a local data folder holds every file that training reads."""
    if data_dir is None:
        return
    for task in DEFAULT_TASKS:
        if task.source is None:
            continue
        for split in (task.source.train_split, task.source.evaluation_split):
            path = data_dir / task.source.folder / f"{split}.parquet"
            if not path.is_file():
                raise DataError(f"no file {path}; give the data folder by --data or MTL_DATA_DIR")


def _command(
    scenario: str,
    name: str,
    preset: str,
    changes: Mapping[str, object],
    backbone: str,
    local: bool,
) -> str:
    """The command as it stands in the model card: without this machine's paths."""
    words = ["mtl", "train", "--scenario", scenario, "--name", name, "--preset", preset]
    for key, value in changes.items():
        words += [f"--{key.replace('_', '-')}", str(value)]
    if backbone != DEFAULT_BACKBONE:
        words += ["--backbone", Path(backbone).name if Path(backbone).is_dir() else backbone]
    return shlex.join([*words, *(["--data", "DIR"] if local else [])])


def _run(spec: TrainSpec, priority: str, *, detach: bool, quiet: bool) -> None:
    with backend(worker=not detach) as where:
        publisher = Publisher(where.ledger.url)
        job, new = submit_train(where.ledger, publisher, spec, priority)
        publisher.close()
        if detach:
            return
        with JobProgress(job, quiet) as progress:
            if not new:
                progress.say(f"{job} has been submitted before; joining it")
            snapshot = watch(where, progress)
    if snapshot.state is not JobState.DONE:
        raise JobError(f"{job} {snapshot.state}: {snapshot.reason or 'no reason given'}")


def _print_result(spec: TrainSpec, as_json: bool) -> None:
    entry = ModelEntry(spec.name, Path(spec.output), shipped=False)
    metrics = entry.metrics()
    if as_json:
        print_json(
            {"id": job_id(spec), "model": spec.name, "path": spec.output, "metrics": metrics}
        )
        return
    click.echo(f"model '{spec.name}': {spec.output}")
    for task, figures in metrics.items():
        click.echo(f"  {task}: accuracy {figures['accuracy']:.4f}, F1 {figures['f1']:.4f}")
    click.echo(f"use it: mtl label INPUT -o OUT --model {spec.name}")
