"""``mtl compare``."""

from collections.abc import Sequence

import click
from rich.table import Table

from jobs.cli.shared import complete
from jobs.cli.shared.common import json_option, overwrite_page_option, print_json
from jobs.cli.shared.plain import cell, print_table
from jobs.output.targets import check_page_target, in_one_line
from jobs.settings import settings
from jobs.specs import TrainSpec
from mtl_core.evaluation.compare import comparison, write_comparison
from mtl_core.evaluation.facts import ModelFacts, read_facts
from mtl_core.model.registry import ModelEntry, find_model
from mtl_core.storage.address import local_path, place_of


@click.command()
@click.argument("models", nargs=-1, required=True, metavar="MODEL…", shell_complete=complete.models)
@click.option("-o", "--output", metavar="FILE.html", help="Also write one self-contained page.")
@overwrite_page_option
@json_option
def compare(models: tuple[str, ...], output: str | None, overwrite: bool, as_json: bool) -> None:
    """Compare trained models: metrics, calibration, STS-B, trained parameters, time.

    A * stands at the best value of a line.

    \b
    Example:
      mtl compare default mine -o compare.html
    """
    path = local_path(output) if output else None
    if path:
        check_page_target(path, overwrite=overwrite)
    facts = [
        read_facts(find_model(name, settings().models, settings().model_copies)) for name in models
    ]
    if as_json:
        columns = comparison(facts)
        print_json(
            [
                {"model": model.name, **{column.title: column.values[row] for column in columns}}
                for row, model in enumerate(facts)
            ]
        )
    else:
        print_comparison(facts)
    if path:
        with in_one_line(path):
            write_comparison(facts, path)
        if not as_json:
            click.echo(f"page: {path}")


def print_trained(specs: Sequence[TrainSpec], *, as_json: bool) -> None:
    """Print what several finished train jobs made."""
    facts = [read_facts(ModelEntry(s.name, place_of(s.output), shipped=False)) for s in specs]
    if as_json:
        print_json({model.name: model.metrics for model in facts})
        return
    print_comparison(facts)
    click.echo(f"page: mtl compare {' '.join(s.name for s in specs)} -o compare.html")


def print_comparison(models: list[ModelFacts]) -> None:
    """Print the table: a column for each model, since there are more figures than models."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("")
    for model in models:
        table.add_column(cell(model.name), justify="right", overflow="fold")
    for column in comparison(models):
        cells = [
            cell(f"* {column.text(row)}", "bold green")
            if column.best is not None and column.values[row] == column.best
            else cell(column.text(row))
            for row in range(len(models))
        ]
        table.add_row(cell(column.title), *cells)
    print_table(table)
