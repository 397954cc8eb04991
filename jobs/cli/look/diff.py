"""``mtl diff``."""

from typing import TYPE_CHECKING

import click
from rich.table import Table

from jobs.cli.shared import complete
from jobs.cli.shared.common import (
    json_option,
    output_folder,
    output_option,
    overwrite_page_option,
    print_json,
)
from jobs.cli.shared.plain import cell, print_table
from jobs.output.layout import read_manifest
from mtl_core.storage.address import local_path

if TYPE_CHECKING:
    from jobs.review.diff import TaskDiff


@click.command()
@click.argument("before", metavar="JOB|OUT", shell_complete=complete.jobs_or_folders)
@click.argument("after", metavar="JOB|OUT", shell_complete=complete.jobs_or_folders)
@click.option("--by", metavar="COLUMN", help="Count the changes by a column of your own.")
@click.option(
    "--reviewed",
    metavar="REVIEWED.csv",
    help="Rows checked by hand: say how many changes corrected a label, and how many spoilt one.",
    shell_complete=complete.files,
)
@output_option("FILE.html", "Write what changed as a page.", required=False)
@overwrite_page_option
@json_option
def diff(
    before: str,
    after: str,
    by: str | None,
    reviewed: str | None,
    output: str | None,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Show how the labels of two outputs of the same input differ.

    REVIEWED.csv is as for `mtl audit`. The page holds what is printed without it, works offline,
    and shows for each label what became of it.

    \b
    Examples:
      mtl diff out/ out2/ --reviewed reviewed.csv
      mtl diff out/ out2/ --by topic -o diff.html
    """
    from jobs.output.targets import check_page_target
    from jobs.review.diff import diff as compare
    from jobs.review.diff_page import write_page
    from jobs.review.reviewed import read_reviewed

    target = local_path(output) if output else None
    if target:
        check_page_target(target, overwrite=overwrite)
    first, second = output_folder(before), output_folder(after)
    tasks = read_manifest(second).model.tasks
    rows = [] if reviewed is None else read_reviewed(local_path(reviewed), tasks)
    found = compare(first, second, by, rows)
    if target:
        write_page(target, (first, second), found, by=by, reviewed=reviewed is not None)
    if as_json:
        print_json({each.task: each.as_json() for each in found})
    elif target:
        click.echo(f"{target}: {target.stat().st_size:,} bytes")
    else:
        for each in found:
            _print(each, by)


def _print(found: "TaskDiff", by: str | None) -> None:
    share = found.changed / max(1, found.rows)
    click.echo(f"{found.task}: {found.changed:,} of {found.rows:,} labels changed ({share:.1%})")
    if found.checked:
        click.echo(
            f"  of {found.checked:,} changed rows that were checked, {found.corrected:,} are "
            f"right now and {found.spoilt:,} were right before"
        )
    if not found.changed:
        return
    flips = Table(box=None, header_style="bold", pad_edge=False)
    for name in ("before", "after", "rows"):
        flips.add_column(name, justify="right" if name == "rows" else "left")
    for (old, new), count in found.flips.most_common():
        flips.add_row(cell(old or "(none)"), cell(new or "(none)"), cell(f"{count:,}"))
    print_table(flips)
    for value, (changed, rows) in found.slices.items():
        click.echo(f"  {by} {value}: {changed:,} of {rows:,} ({changed / max(1, rows):.1%})")
    shown = Table(box=None, header_style="bold", pad_edge=False)
    for name in ("row_id", "before", "after", "text"):
        shown.add_column(name, overflow="fold")
    for row in found.examples:
        shown.add_row(
            *(cell(each or "(none)") for each in (row.row_id, row.before, row.after)),
            cell(row.text),
        )
    print_table(shown, width=160)
