"""``mtl review``."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from jobs.cli.shared.common import (
    finished_argument,
    output_folder,
    output_option,
    overwrite_page_option,
    where_option,
)
from jobs.output.layout import read_manifest, require_finished
from mtl_core.storage.address import absolute, local_path
from mtl_core.suggest import near_hint

if TYPE_CHECKING:
    from jobs.review.draw import SheetRow


@click.command()
@finished_argument
@output_option("FILE", "Sheet to write: .html, a page for a browser; .csv; or .json.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["html", "csv", "label-studio"]),
    help="As the name of the file ends, unless given; .json is Label Studio's.",
)
@click.option("-n", "--rows", type=click.IntRange(1), default=200, show_default=True, metavar="N")
@click.option("--task", "only", metavar="TASK", multiple=True, help="Check this task only.")
@where_option
@click.option("--show-labels", is_flag=True, help="Show the labels given from the beginning.")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the draw.")
@overwrite_page_option
def review(
    job: str,
    output: str,
    form: str | None,
    rows: int,
    only: tuple[str, ...],
    where: str | None,
    show_labels: bool,
    seed: int,
    overwrite: bool,
) -> None:
    """Write a sheet of rows to check by hand.

    Three quarters are drawn at random, stratified by label; the rest are the least sure rows, near
    copies left out. The page works by keyboard and offline, and saves `reviewed.csv`; a csv sheet
    is filled in where its label columns are empty. Label Studio imports the .json; the .xml beside
    it is its labelling interface. Labels given are hidden, so that nobody just agrees.

    \b
    Examples:
      mtl review out/ -o sheet.html
      mtl review out/ -o sheet.csv -n 100 --task sentiment --where "topic = 'Sports'"
      mtl review out/ -o tasks.json --format label-studio
    """
    from jobs.output.rows import condition_of
    from jobs.review.draw import draw_rows
    from jobs.review.sheet import Sheet, check_sheet, write_sheet

    require_finished(folder := output_folder(job))
    manifest = read_manifest(folder)
    tasks = list(dict.fromkeys(only or manifest.model.tasks))
    for task in tasks:
        if task not in manifest.model.tasks:
            raise click.UsageError(f"no task '{task}'{near_hint(task, manifest.model.tasks)}")
    target = local_path(output)
    check_sheet(target, form, overwrite=overwrite)
    condition = condition_of(folder, manifest, where)
    drawn = draw_rows(folder, manifest, tasks, rows, seed, condition)
    write_sheet(target, Sheet(absolute(folder), manifest, tasks, drawn, show_labels))
    _say(job, target, drawn)


def _say(job: str, target: Path, drawn: Sequence["SheetRow"]) -> None:
    """What was written, and what to do with it."""
    from jobs.review.sheet import interface_of

    at_random = sum(row.part == "random" for row in drawn)
    click.echo(f"{target}: {at_random} rows at random, {len(drawn) - at_random} the least sure")
    filled = "reviewed.csv"
    if target.suffix == ".json":
        click.echo(f"{interface_of(target)}: paste into Settings > Labeling Interface > Code")
        filled = "EXPORT.json"
    click.echo(f"then: mtl audit {job} {filled}")
