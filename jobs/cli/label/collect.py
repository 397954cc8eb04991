"""``mtl collect``."""

import click

from jobs.cli.shared import complete
from jobs.cli.shared.common import (
    finished_argument,
    json_option,
    output_folder,
    output_option,
    print_json,
)
from jobs.output.collect import collect as collect_parts
from jobs.output.collect import collect_by_label
from jobs.output.formats import CollectFormat
from jobs.output.layout import read_manifest
from mtl_core.storage.address import local_path


@click.command()
@finished_argument
@output_option("FILE", "File (or folder) to write.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["parquet", "csv", "jsonl"]),
    help="Of the file.  [default: by its name]",
)
@click.option(
    "--by",
    "task",
    metavar="TASK",
    shell_complete=complete.tasks,
    help="Write a folder for each label of this task instead (TASK=LABEL/…, Parquet).",
)
@click.option(
    "--overwrite",
    is_flag=True,
    help="Replace the file named, or a folder that holds only what this command wrote.",
)
@json_option
def collect(
    job: str,
    output: str,
    form: CollectFormat | None,
    task: str | None,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Write all rows of a finished label job into one file, in the order of row_id.

    JOB is a job's id or its output, a folder or an s3:// address. Every part is checked against the
    manifest. csv holds no lists, and so no embedding, and no bytes; jsonl holds bytes as base64 and
    null for NaN and infinities. The place must lie outside any job's output. A folder written by
    --by lists its files in _collected.json and is replaced only if it holds these and nothing else.

    \b
    Examples:
      mtl collect label-3f2a9c0d1b7e -o labelled.parquet
      mtl collect out/ -o labelled.csv
      mtl collect out/ -o by-topic/ --by topic
    """
    target = local_path(output)
    folder = output_folder(job)
    left_out: dict[str, str] = {}
    if task is not None:
        if form not in (None, "parquet"):
            raise click.UsageError("--by writes Parquet; leave --format out")
        rows = collect_by_label(folder, target, task, overwrite=overwrite)
    else:
        rows, left_out = collect_parts(folder, target, form, overwrite=overwrite)
    if as_json:
        print_json({"rows": rows, "output": str(target.absolute()), "left_out": list(left_out)})
        return
    size = f" ({target.stat().st_size:,} bytes)" if target.is_file() else ""
    click.echo(f"{rows:,} rows in {target}{size}")
    if not rows:
        errors = read_manifest(folder).rows.errors
        click.echo(f"no row was labelled; {errors:,} are in {folder}/errors", err=True)
    if left_out:
        names = ", ".join(f"{name} ({word})" for name, word in left_out.items())
        click.echo(f"left out, because csv cannot hold them: {names}", err=True)
