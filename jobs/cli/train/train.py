"""``mtl train``."""

from collections.abc import Mapping, Sequence

import click

from jobs.cli.shared import complete
from jobs.cli.shared.common import (
    backend,
    detach_option,
    json_option,
    print_json,
    priority_option,
    quiet_option,
)
from jobs.cli.shared.notice import ask_for_notice, notify_option, wait_until_told
from jobs.cli.shared.submission import Submission, warn_unless_replicated
from jobs.cli.shared.watch import JobProgress, watch
from jobs.cli.train.compare import print_trained
from jobs.cli.train.heads import refuse_options_of_heads, spec_of_heads
from jobs.ledger.lifecycle import JobState
from jobs.ledger.messages import Publisher
from jobs.settings import settings
from jobs.specs import TrainSpec, job_id
from jobs.train.request import (
    TrainRequest,
    Value,
    check_scenario,
    checked_data,
    parse_settings,
    train_spec,
)
from jobs.train.submit import submit_train
from mtl_core.config import DEFAULT_BACKBONE, PRESETS
from mtl_core.errors import JobError
from mtl_core.evaluation.facts import read_facts
from mtl_core.model.registry import ModelEntry
from mtl_core.storage.address import place_of
from mtl_core.training.scenario_names import COMMANDS, HEADS, scenario_help

SCENARIO_HELP = "\n\n    \b\n    Scenarios:\n" + "\n".join(
    f"      {name:<22} {text}" for name, text in COMMANDS.items()
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
      mtl train --all-scenarios --name trial --data data/
      mtl train --scenario full --name desk --data data/ --tasks tasks.toml
      mtl train --scenario heads --from default --add reviewed.csv --name mine
      mtl train --scenario heads --from default --add rows.csv --task urgency --name own
    """
)
@click.option(
    "--scenario",
    metavar="NAME",
    help="Which parts train; see above.",
    shell_complete=complete.scenarios,
)
@click.option(
    "--all-scenarios",
    is_flag=True,
    help="One job and one model (MODEL-SCENARIO) for each scenario, then a comparison.",
)
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
@click.option(
    "--tasks",
    "task_file",
    metavar="TOML",
    help="Tasks of your own, beside or instead of those shipped; see docs/tasks.md.",
)
@click.option(
    "--add",
    multiple=True,
    metavar="FILE",
    help="Further rows to train on: a text, and a column named after each task with its label "
    "(empty: none). May be repeated.",
)
@click.option(
    "--keep-overlap",
    is_flag=True,
    default=None,
    help="Train also on rows that share most of their runs of eight words with an evaluation row. "
    "[left out, and counted in the model's card]",
)
@click.option(
    "--teacher",
    "teachers",
    metavar="MODEL[,MODEL…]",
    default="",
    help="Trained models whose answers, averaged, are learnt beside the labels.",
    shell_complete=complete.models,
)
@click.option(
    "--unlabelled",
    multiple=True,
    metavar="[TASK=]FILE",
    help="Texts without labels, which the teacher labels; for one task or all. May be repeated.",
)
@click.option(
    "--keep-layers",
    type=click.IntRange(1),
    help="Make a smaller, faster model with so many of the backbone's layers; best with a teacher.",
)
@click.option(
    "--set",
    "settable",
    multiple=True,
    metavar="NAME=VALUE",
    help="Change any other setting of the preset, named as in a model's card: batch_rows, "
    "backbone_learning_rate, similarity_weight … May be repeated.",
)
@click.option(
    "--from",
    "start",
    metavar="MODEL",
    default="",
    help="The model whose heads `heads` trains.",
    shell_complete=complete.models,
)
@click.option(
    "--output",
    metavar="JOB|OUT",
    default="",
    help="The output whose rows were checked, for `heads`. [as the review sheet says]",
    shell_complete=complete.jobs_or_folders,
)
@click.option(
    "--task",
    "only_tasks",
    metavar="TASK",
    multiple=True,
    help="Train this head only, for `heads`. A task that the model has not is made anew, with the "
    "labels in the column of its name. May be repeated.",
)
@click.option("--backbone", default=DEFAULT_BACKBONE, show_default=True, help="Name or path.")
@notify_option
@priority_option
@detach_option
@quiet_option
@json_option
def train(
    scenario: str | None,
    all_scenarios: bool,
    name: str,
    data: str | None,
    preset: str,
    task_file: str | None,
    add: tuple[str, ...],
    teachers: str,
    unlabelled: tuple[str, ...],
    settable: tuple[str, ...],
    start: str,
    output: str,
    only_tasks: tuple[str, ...],
    backbone: str,
    notify: str | None,
    priority: str,
    detach: bool,
    quiet: bool,
    as_json: bool,
    **changes: Value,
) -> None:
    """Train a model; the help text is given to the decorator."""
    if (scenario is None) == (not all_scenarios):
        raise click.UsageError("give one of --scenario NAME and --all-scenarios")
    submission = Submission(priority, notify, detach, quiet, as_json)
    submission.check()
    given: dict[str, Value] = {key: value for key, value in changes.items() if value is not None}
    given |= parse_settings(settable)
    names = tuple(name.strip() for name in teachers.split(",") if name.strip())
    request = TrainRequest(
        preset,
        data,
        backbone,
        task_file,
        given,
        add=add,
        teachers=names,
        unlabelled=unlabelled,
        start=start,
        output=output,
        only_tasks=only_tasks,
    )
    wanted = {scenario: name} if scenario is not None else _all_of(request, name)
    for each in wanted:
        check_scenario(each, request.tasks())  # before the data is read
    specs, notes = _specs(request, wanted)
    for note in notes if not quiet else ():
        click.echo(note, err=True)
    from_hub = specs[0].data_dir is None and scenario != HEADS and request.needs_hub()
    if from_hub and not (quiet or as_json):
        click.echo("data sets come from the hub; --data DIR takes those of a folder", err=True)
    _run(specs, submission)
    if detach:
        ids = [job_id(spec) for spec in specs]
        answer = {"ids": ids} if all_scenarios else {"id": ids[0]}
        print_json(answer) if as_json else click.echo("\n".join(ids))
    elif scenario is not None:
        _print_result(specs[0], as_json, said=notes)
    else:
        print_trained(specs, as_json=as_json)


def _specs(
    request: TrainRequest, wanted: Mapping[str, str]
) -> tuple[list[TrainSpec], Sequence[str]]:
    """The jobs' specs, and what their data makes worth saying."""
    if HEADS in wanted:
        return [spec_of_heads(request, wanted[HEADS])], ()
    refuse_options_of_heads(request)
    checked = checked_data(request, settings())
    specs = [train_spec(request, each, own, settings(), checked) for each, own in wanted.items()]
    return specs, checked.notes


def _all_of(request: TrainRequest, name: str) -> dict[str, str]:
    """The name of the model to make for each scenario."""
    return {each: f"{name}-{each}" for each in scenario_help(request.tasks())}


def _run(specs: list[TrainSpec], submission: Submission) -> None:
    """Queue all jobs, so that several workers can take them at once; then watch each to its end."""
    with backend(worker=not submission.detach) as where:
        publisher = Publisher(where.ledger.url)
        priority = submission.priority
        jobs = [submit_train(where.ledger, publisher, spec, priority) for spec in specs]
        publisher.close()
        for job, new in jobs:
            ask_for_notice(where, job, submission.notify, new=new)
        if submission.detach:
            warn_unless_replicated(where.ledger)
            return
        failed = []
        for job, new in jobs:
            with JobProgress(job, submission.quiet or submission.as_json) as progress:
                if not new:
                    progress.say(f"{job} has been submitted before; joining it")
                snapshot = watch(where, progress)
            wait_until_told(where, job)
            if snapshot.state is not JobState.DONE:
                failed.append(f"{job} {snapshot.state}: {snapshot.reason or 'no reason given'}")
    if failed:
        raise JobError("; ".join(failed))


def _print_result(spec: TrainSpec, as_json: bool, said: Sequence[str]) -> None:
    """Print what the run made; of its notes those that the user was not told before."""
    entry = ModelEntry(spec.name, place_of(spec.output), shipped=False)
    metrics = entry.metrics()
    if as_json:
        print_json(
            {"id": job_id(spec), "model": spec.name, "path": spec.output, "metrics": metrics}
        )
        return
    for note in read_facts(entry).config.get("training", {}).get("notes", []):
        if not any(line.endswith(note) for line in said):
            click.echo(note, err=True)
    click.echo(f"model '{spec.name}': {spec.output}")
    for task, figures in metrics.items():
        click.echo(f"  {task}: accuracy {figures['accuracy']:.4f}, F1 {figures['f1']:.4f}")
    click.echo(f"use it: mtl label INPUT -o OUT --model {spec.name}")
