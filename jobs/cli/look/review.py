"""``mtl review``."""

import click

from jobs.cli.shared.common import (
    finished_argument,
    output_folder,
    output_option,
    overwrite_page_option,
    where_option,
)
from jobs.output.layout import read_manifest, require_finished
from jobs.output.rows import condition_of
from mtl_core.storage.address import local_path
from mtl_core.suggest import near_hint


@click.command()
@finished_argument
@output_option("FILE.html|FILE.csv", "Sheet to write: a page for a browser, or csv.")
@click.option("-n", "--rows", type=click.IntRange(1), default=200, show_default=True, metavar="N")
@click.option("--task", "only", metavar="TASK", multiple=True, help="Check this task only.")
@where_option
@click.option("--show-labels", is_flag=True, help="Show the labels given from the beginning.")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the draw.")
@overwrite_page_option
def review(
    job: str,
    output: str,
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
    is filled in where its label columns are empty. Labels given are hidden, so that nobody just
    agrees.

    \b
    Examples:
      mtl review out/ -o sheet.html
      mtl review out/ -o sheet.csv -n 100 --task sentiment --where "topic = 'Sports'"
    """
    from jobs.review.draw import draw_rows
    from jobs.review.sheet import write_sheet

    folder = output_folder(job)
    require_finished(folder)
    manifest = read_manifest(folder)
    known = list(manifest.model.tasks)
    for task in only:
        if task not in known:
            raise click.UsageError(f"no task '{task}'{near_hint(task, known)}")
    tasks = list(only) or known
    condition = condition_of(folder, manifest, where)
    drawn = draw_rows(folder, manifest, tasks, rows, seed, condition)
    target = local_path(output)
    write_sheet(target, manifest, tasks, drawn, show_labels=show_labels, overwrite=overwrite)
    at_random = sum(row.part == "random" for row in drawn)
    others = len(drawn) - at_random
    click.echo(f"{target}: {at_random} rows at random, {others} the least sure")
    click.echo(f"then: mtl audit {job} reviewed.csv")
