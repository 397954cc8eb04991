"""``mtl duplicates``."""

from functools import partial
from typing import TYPE_CHECKING

import click
from rich.table import Table

from jobs.cli.shared import complete
from jobs.cli.shared.common import (
    finished_argument,
    generation_option,
    json_option,
    output_folder,
    output_option,
    print_json,
)
from jobs.cli.shared.plain import cell, print_table, shortened
from mtl_core.storage.address import local_path

if TYPE_CHECKING:
    from pathlib import Path

    from jobs.vectors.copies.against import Matches
    from jobs.vectors.copies.duplicates import Duplicates


@click.command()
@finished_argument
@click.option(
    "--threshold",
    type=click.FloatRange(0, 1, min_open=True),
    default=0.95,
    show_default=True,
    help="Least cosine of near-equal texts.",
)
@click.option(
    "--by",
    metavar="COLUMN",
    help="A column of your own that should agree within a group, as labels made by hand.",
)
@click.option(
    "--against",
    metavar="JOB|OUT",
    help="Find rows that are near a row of this other output instead.",
    shell_complete=complete.jobs_or_folders,
)
@click.option(
    "-n", "shown", type=click.IntRange(0), default=10, show_default=True, help="Examples shown."
)
@output_option("FILE.parquet", "Write the rows found, with group and size.", required=False)
@click.option("--overwrite", is_flag=True, help="Replace the file named.")
@generation_option
@json_option
def duplicates(
    job: str,
    threshold: float,
    by: str | None,
    against: str | None,
    shown: int,
    output: str | None,
    overwrite: bool,
    generation: int | None,
    as_json: bool,
) -> None:
    """Find groups of equal and near-equal texts, by the cosine of their embeddings.

    Groups whose labels differ come first: their texts say the same, so that a label is wrong, or
    hangs by a thread. Rows are in one group if they hang together by near pairs; the cosine shown
    is that with the group's first row. Rows of a lesser cosine (0.7) are copies, too, where they
    begin or end with the same twelve words, as a copy without its title does. Embeddings stored as
    signs (binary) tell the cosine to about 0.02.

    \b
    Examples:
      mtl duplicates out/ -o groups.parquet
      mtl duplicates out/ --by label --threshold 0.9
      mtl duplicates test/ --against train/
    """
    from jobs.output.targets import check_file_target
    from jobs.vectors.copies.against import find_matches
    from jobs.vectors.copies.duplicates import find_duplicates

    if by is not None and against is not None:
        raise click.UsageError("--by looks within one output; leave it or --against out")
    target = local_path(output) if output else None
    if target:
        check_file_target(target, overwrite=overwrite)
    folder = output_folder(job)
    found: Duplicates | Matches
    if against is None:
        found = find_duplicates(folder, threshold, by, shown, generation=generation)
        show = partial(_print_groups, found)
    else:
        found = find_matches(folder, output_folder(against), threshold, shown, generation)
        show = partial(_print_matches, found, against)
    if target:
        _write(target, found)
    if as_json:
        print_json(found.as_json())
        return
    show()
    if target:
        click.echo(f"{target}: {target.stat().st_size:,} bytes")


def _write(target: "Path", found: "Duplicates | Matches") -> None:
    import pyarrow.parquet as pq

    from jobs.output.targets import in_one_line
    from mtl_core.files import replace_file, temporary_beside

    with in_one_line(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = temporary_beside(target.absolute())
        try:
            with temporary.open("xb") as stream:
                pq.write_table(found.as_table(), stream, compression="zstd")
            replace_file(temporary, target)
        finally:
            temporary.unlink(missing_ok=True)


def _print_groups(found: "Duplicates") -> None:
    later = len(found.row_ids) - len(found.starts)
    click.echo(
        f"{len(found.row_ids):,} of {found.rows:,} rows are in {len(found.starts):,} groups of "
        f"near-equal texts (cosine {found.threshold:g} or more, or alike at an end); {later:,} are "
        "near copies of "
        "an earlier row"
    )
    for name, differ in found.contradictions.items():
        if differ.any():
            click.echo(f"  {name} differs within {int(differ.sum()):,} groups")
    for group in found.shown:
        said = f"; {', '.join(group.contradicts)} differ" if group.contradicts else ""
        click.echo(f"\ngroup of row {group.first_row_id}: {group.size:,} rows{said}")
        table = Table(box=None, header_style="bold", pad_edge=False)
        names = list(group.members[0].values)
        for name in ("row_id", "cosine", *names, "text"):
            number = name in ("row_id", "cosine")
            table.add_column(name, justify="right" if number else "left", overflow="fold")
        for row in group.members:
            values = (cell(row.values[name] or "(none)") for name in names)
            table.add_row(cell(row.row_id), f"{row.cosine:.3f}", *values, cell(shortened(row.text)))
        print_table(table, width=160)


def _print_matches(found: "Matches", other: str) -> None:
    share = len(found.row_ids) / max(1, found.rows)
    click.echo(
        f"{len(found.row_ids):,} of {found.rows:,} rows ({share:.1%}) are near a row of {other} "
        f"(cosine {found.threshold:g} or more, or alike at an end)"
    )
    for match in found.shown:
        click.echo(f"\ncosine {match.cosine:.3f}")
        table = Table(box=None, header_style="bold", pad_edge=False)
        for name in ("", "row_id", "text"):
            table.add_column(name, overflow="fold")
        table.add_row("here", cell(match.row_id), cell(shortened(match.text)))
        table.add_row("there", cell(match.other_row_id), cell(shortened(match.other_text)))
        print_table(table, width=160)
