"""``mtl report``."""

import click

from jobs.cli.shared import complete
from jobs.cli.shared.common import (
    finished_argument,
    generation_option,
    output_folder,
    output_option,
    overwrite_page_option,
)
from mtl_core.storage.address import local_path


@click.command()
@finished_argument
@output_option("FILE.html", "Page to write.")
@click.option(
    "--against",
    metavar="OLD",
    shell_complete=complete.jobs_or_folders,
    help="An earlier job or output of the same model: say what has changed since.",
)
@generation_option
@overwrite_page_option
def report(
    job: str, output: str, against: str | None, generation: int | None, overwrite: bool
) -> None:
    """Write one self-contained HTML page about a finished label job.

    JOB is a job's id or its output, a folder or an s3:// address. The page shows the labels' shares
    and scores, the rows to look at (least sure, longest, truncated, erroneous), a map of the
    embeddings to search, near-equal texts whose labels contradict, and the speed of each worker;
    all from the Parquet.

    \b
    Examples:
      mtl report out/ -o report.html
      mtl report this-week/ --against last-week/ -o report.html
    """
    from jobs.report.page import write_report

    target = local_path(output)
    old = output_folder(against) if against else None
    facts = write_report(
        output_folder(job), target, overwrite=overwrite, against=old, generation=generation
    )
    rows = facts.manifest.rows.labelled
    click.echo(f"{target}: {rows:,} rows, {target.stat().st_size:,} bytes")
