"""``mtl collect``."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Literal

import click

from jobs.cli.shared import complete
from jobs.cli.shared.common import (
    finished_argument,
    generation_option,
    json_option,
    output_folder,
    output_option,
    print_json,
)
from jobs.cli.shared.plain import count
from jobs.output.collect import collect as collect_parts
from jobs.output.collect import collect_by_label
from jobs.output.formats import CollectFormat
from jobs.output.layout import read_manifest
from mtl_core.storage.address import absolute, local_path, place_of
from mtl_core.storage.place import Place

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@click.command()
@finished_argument
@output_option("FILE", "File (or folder, or Delta table) to write.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["parquet", "csv", "jsonl", "delta"]),
    help="Of the file; delta: a table.  [default: by its name]",
)
@click.option(
    "--by",
    "task",
    metavar="TASK",
    shell_complete=complete.tasks,
    help="Write a folder for each label of this task instead (TASK=LABEL/…, Parquet).",
)
@click.option(
    "--drop-duplicates",
    is_flag=True,
    help="Of near-equal texts, as `mtl duplicates` finds them, keep the first.",
)
@click.option(
    "--threshold",
    type=click.FloatRange(0, 1, min_open=True),
    help="Least cosine of near-equal texts.  [default: 0.95]",
)
@click.option(
    "--overwrite",
    is_flag=True,
    help="Replace the file named, or a folder that holds only what this command wrote.",
)
@generation_option
@json_option
def collect(
    job: str,
    output: str,
    form: CollectFormat | Literal["delta"] | None,
    task: str | None,
    drop_duplicates: bool,
    threshold: float | None,
    overwrite: bool,
    generation: int | None,
    as_json: bool,
) -> None:
    """Write all rows of a finished label job into one file, in the order of row_id.

    JOB is a job's id or its output, a folder or an s3:// address. Every part is checked against the
    manifest. csv holds no lists, and so no embedding, and no bytes; jsonl holds bytes as base64 and
    null for NaN and infinities. The place must lie outside any job's output. A folder written by
    --by lists its files in _collected.json and is replaced only if it holds these and nothing else.
    A Delta table (FOLDER.delta, or --format delta) gets a commit for each generation that it lacks:
    what was appended to JOB is added by the same command. Needs pip install 'mtl-batch[delta]'.

    \b
    Examples:
      mtl collect label-3f2a9c0d1b7e -o labelled.parquet
      mtl collect out/ -o labelled.csv
      mtl collect out/ -o by-topic/ --by topic
      mtl collect out/ -o distinct.parquet --drop-duplicates
      mtl collect out/ -o reviews.delta
    """
    if form == "delta" or (form is None and output.rstrip("/").endswith(".delta")):
        if task or drop_duplicates or overwrite or generation:
            raise click.UsageError(
                "a Delta table gets all generations in their order, whole; leave --by, "
                "--drop-duplicates, --overwrite and --generation out"
            )
        _into_table(output_folder(job), place_of(output), as_json)
        return
    target = local_path(output)
    folder = output_folder(job)
    if threshold is not None and not drop_duplicates:
        raise click.UsageError("--threshold is for --drop-duplicates")
    without = later_rows(folder, threshold, generation) if drop_duplicates else None
    left_out: dict[str, str] = {}
    if task is not None:
        if form not in (None, "parquet"):
            raise click.UsageError("--by writes Parquet; leave --format out")
        rows = collect_by_label(
            folder, target, task, overwrite=overwrite, without=without, generation=generation
        )
    else:
        rows, left_out = collect_parts(
            folder, target, form, overwrite=overwrite, without=without, generation=generation
        )
    if as_json:
        said = {"rows": rows, "output": str(target.absolute()), "left_out": list(left_out)}
        print_json(said if without is None else {**said, "duplicates_dropped": len(without)})
        return
    size = f" ({target.stat().st_size:,} bytes)" if target.is_file() else ""
    click.echo(f"{rows:,} rows in {target}{size}")
    if without is not None:
        click.echo(f"dropped: {len(without):,} near copies of other rows", err=True)
    if not rows:
        errors = read_manifest(folder, generation).rows.errors
        click.echo(f"no row was labelled; {errors:,} are in {folder}/errors", err=True)
    if left_out:
        names = ", ".join(f"{name} ({word})" for name, word in left_out.items())
        click.echo(f"left out, because csv cannot hold them: {names}", err=True)


def _into_table(folder: Place, target: Place, as_json: bool) -> None:
    from jobs.output.delta import collect_delta

    done = collect_delta(folder, target)
    if as_json:
        print_json({**asdict(done), "output": absolute(target), "left_out": list(done.left_out)})
        return
    if not done.written:
        click.echo(f"nothing new: {target} holds all generations of {folder}")
        return
    there = f", {count(len(done.there), 'generation')} there before" if done.there else ""
    commits = count(len(done.written), "commit")
    click.echo(f"{done.rows:,} rows written to {target} in {commits}{there}")
    if done.left_out:
        names = ", ".join(f"{name} ({kind})" for name, kind in done.left_out.items())
        click.echo(f"left out, because a Delta table cannot hold them: {names}", err=True)


def later_rows(
    output: Place, threshold: float | None, generation: int | None
) -> "NDArray[np.int64]":
    """The ``row_id`` of rows that are near copies of an earlier one."""
    from jobs.vectors.copies.duplicates import THRESHOLD, find_duplicates

    least = THRESHOLD if threshold is None else threshold
    return find_duplicates(output, least, shown=0, generation=generation).later
