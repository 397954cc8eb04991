"""``mtl report``."""

from pathlib import Path

import click

from jobs.cli import complete
from jobs.cli.common import output_folder


@click.command()
@click.argument("job", metavar="JOB|OUT", shell_complete=complete.jobs_or_folders)
@click.option(
    "-o",
    "--output",
    required=True,
    metavar="FILE.html",
    help="Page to write.",
    shell_complete=complete.files,
)
def report(job: str, output: str) -> None:
    """Write one self-contained HTML page about a finished label job.

    The page shows the labels' shares and scores, the rows
    to look at (least sure, longest, truncated, erroneous), a map of the embeddings, and the speed
    of each worker; all from the Parquet.

    \b
    Example:
      mtl report out/ -o report.html
    """
    from jobs.report import write_report

    target = Path(output).expanduser()
    facts = write_report(output_folder(job), target)
    rows = facts.manifest["rows"]["labelled"]
    click.echo(f"{target}: {rows:,} rows, {target.stat().st_size:,} bytes")
