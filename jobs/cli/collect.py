"""``mtl collect``."""

from pathlib import Path

import click

from jobs.cli.common import backend, json_option, print_json
from jobs.collect import collect as collect_parts
from jobs.lifecycle import JobState
from jobs.output import MANIFEST
from jobs.specs import LabelSpec
from mtl_core.errors import JobError


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
    rows = collect_parts(_folder(job), target, overwrite=overwrite)
    if as_json:
        print_json({"rows": rows, "output": str(target.absolute())})
    else:
        click.echo(f"{rows:,} rows in {target} ({target.stat().st_size:,} bytes)")


def _folder(job: str) -> Path:
    path = Path(job).expanduser()
    if (path / MANIFEST).is_file():
        return path
    if path.is_dir():
        raise JobError(f"{path} holds no finished output ({MANIFEST} is missing)")
    with backend(worker=False) as where:
        spec = where.ledger.spec(job)
        state = where.ledger.state(job)
    if not isinstance(spec, LabelSpec):
        raise JobError(f"{job} is a train job; its model is {spec.output}")
    if state not in (JobState.DONE, JobState.PARTIAL):
        raise JobError(f"{job} is {state}; collect it once it is done")
    return Path(spec.output)
