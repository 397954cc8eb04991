"""``mtl audit``."""

from typing import TYPE_CHECKING

import click
from rich.table import Table

from jobs.cli.shared import complete
from jobs.cli.shared.common import (
    finished_argument,
    json_option,
    output_folder,
    print_json,
    where_option,
)
from jobs.cli.shared.plain import cell, print_table
from jobs.output.layout import read_manifest, require_finished
from mtl_core.storage.address import local_path

if TYPE_CHECKING:
    from jobs.review.audit import TaskAudit
    from mtl_core.evaluation.audit import Estimate


@click.command()
@finished_argument
@click.argument("reviewed", metavar="REVIEWED.csv", shell_complete=complete.files)
@click.option(
    "--random", is_flag=True, help="Rows without a `part` were drawn at random, too: count them."
)
@click.option(
    "--width",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=0.05,
    show_default=True,
    help="Say how many checked rows an interval of this length needs.",
)
@where_option
@json_option
def audit(
    job: str, reviewed: str, random: bool, width: float, where: str | None, as_json: bool
) -> None:
    """Say how right an output's labels are, from rows checked by hand.

    REVIEWED.csv is what `mtl review` gave you to fill in, its export as JSON from Label Studio, or
    any table with `row_id` and a column named after each task. Accuracy, the true labels' shares
    and which labels are mistaken for which are told of the whole output, with 95 % intervals, from
    the rows drawn at random alone.

    \b
    Example:
      mtl audit out/ reviewed.csv
    """
    from jobs.review.audit import audit as audit_rows
    from jobs.review.reviewed import read_reviewed

    folder = output_folder(job)
    require_finished(folder)
    tasks = read_manifest(folder).model.tasks
    rows = read_reviewed(local_path(reviewed), tasks)
    found = audit_rows(folder, rows, random=random, where=where)
    if as_json:
        print_json({each.task: each.as_json() for each in found})
        return
    for each in found:
        _print(each, width)


def _print(found: "TaskAudit", width: float) -> None:
    aside = f", {found.unsure} others checked and not counted" if found.unsure else ""
    click.echo(f"{found.task}: {found.random} rows checked at random{aside}")
    if found.accuracy is not None:
        click.echo(f"  accuracy {_range(found.accuracy)}")
        more = found.accuracy.rows_for(width) - found.accuracy.rows
        if more > 0:
            click.echo(f"  about {more:,} more rows at random for an interval {width:.1%} long")
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in ("label", "true share", "right where given", "mistaken for it"):
        table.add_column(name)
    for label, share in found.shares.items():
        own = found.slices.get(label)
        table.add_row(
            cell(label),
            cell(_range(share)),
            cell(_range(own) if own else "too few rows"),
            cell(_mistaken(found, label)),
        )
    print_table(table)


def _range(estimate: "Estimate") -> str:
    return f"{estimate.value:.1%} ({estimate.low:.1%} to {estimate.high:.1%})"


def _mistaken(found: "TaskAudit", label: str) -> str:
    """Which right labels stand behind a label given, the most frequent first."""
    line = found.confusion.get(label, {})
    others = sorted((share, name) for name, share in line.items() if share and name != label)
    return ", ".join(f"{name} {share:.1%}" for share, name in reversed(others))
