"""``mtl drift``."""

import sys
from typing import TYPE_CHECKING

import click
from rich.table import Table

from jobs.cli.shared import complete
from jobs.cli.shared.common import json_option, output_folder, print_json
from jobs.cli.shared.plain import cell, print_table, shortened

if TYPE_CHECKING:
    from jobs.vectors.drift import Drift

SHOWN_SHARES = 12
DRIFTED = 5
"""What the command exits with if --fail is given and the input has changed."""


@click.command()
@click.argument("old", metavar="OLD", shell_complete=complete.jobs_or_folders)
@click.argument("new", metavar="NEW", shell_complete=complete.jobs_or_folders)
@click.option("--by", metavar="COLUMN", help="Compare the values of a column of your own, too.")
@click.option(
    "--rows",
    type=click.IntRange(40),
    default=5000,
    show_default=True,
    help="Rows drawn of each output.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Of the rows drawn.")
@click.option("--fail", is_flag=True, help=f"Exit with {DRIFTED} if the input has changed.")
@json_option
def drift(
    old: str, new: str, by: str | None, rows: int, seed: int, fail: bool, as_json: bool
) -> None:
    """Say whether the input has changed from one output to another of the same model.

    OLD and NEW are jobs' ids or outputs. Labels' shares, scores, typicality and embeddings are
    compared on rows drawn of both, near copies counted once. All tests decide together: of inputs
    that have not changed, 1 % are said to have.

    \b
    Examples:
      mtl drift last-week/ this-week/
      mtl drift last-week/ this-week/ --by source --fail
    """
    from jobs.vectors.drift import find_drift

    found = find_drift(output_folder(old), output_folder(new), rows, by, seed=seed)
    if as_json:
        print_json(found.as_json())
    else:
        _print(found)
    if fail and found.drift:
        sys.exit(DRIFTED)


def _print(found: "Drift") -> None:
    said = "the input has changed" if found.drift else "no change found"
    click.echo(
        f"{said}: p = {found.p:.3f} of all tests together, {found.old_rows:,} old and "
        f"{found.new_rows:,} new distinct rows"
    )
    click.echo(
        f"a classifier tells old from new by the embeddings with an AUC of {found.auc:.3f} "
        f"({found.auc_low:.3f} to {found.auc_high:.3f}; 0.5: not at all)"
    )
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("test")
    table.add_column("p alone", justify="right")
    for name, p in sorted(found.tests.items(), key=lambda item: item[1]):
        table.add_row(cell(name), f"{p:.3f}")
    print_table(table)
    click.echo("\nshares that moved most, and the 95 % interval of the difference")
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in ("column", "value", "old", "new", "difference"):
        table.add_column(name, justify="left" if name in ("column", "value") else "right")
    for share in found.shares[:SHOWN_SHARES]:
        table.add_row(
            *(cell(share.column), cell(share.value), f"{share.old:.1%}", f"{share.new:.1%}"),
            f"{share.low:+.1%} to {share.high:+.1%}",
        )
    print_table(table)
    if not found.drift:
        return
    click.echo("\nrows of the new output that look least like the old")
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("row_id", justify="right")
    table.add_column("text", overflow="fold")
    for row in found.newest:
        table.add_row(cell(row.row_id), cell(shortened(row.text)))
    print_table(table, width=160)
