"""``mtl collect``."""

from pathlib import Path

import click

from jobs.cli.common import json_option, output_folder, print_json
from jobs.collect import collect as collect_parts


@click.command()
@click.argument("job", metavar="JOB")
@click.option("-o", "--output", required=True, metavar="FILE", help="Parquet file to write.")
@click.option("--overwrite", is_flag=True, help="Replace the file if it is there.")
@json_option
def collect(job: str, output: str, overwrite: bool, as_json: bool) -> None:
    """Write all rows of a finished label job into one Parquet file, in the order of row_id.

    JOB is a job's id or its output folder. Every part is checked against the manifest.

    \b
    Examples:
      mtl collect label-3f2a9c0d1b7e -o labelled.parquet
      mtl collect out/ -o labelled.parquet
    """
    target = Path(output).expanduser()
    rows = collect_parts(output_folder(job), target, overwrite=overwrite)
    if as_json:
        print_json({"rows": rows, "output": str(target.absolute())})
    else:
        click.echo(f"{rows:,} rows in {target} ({target.stat().st_size:,} bytes)")
