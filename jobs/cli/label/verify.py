"""``mtl verify``."""

import click

from jobs.cli.shared import complete
from jobs.cli.shared.common import (
    finished_argument,
    generation_option,
    json_option,
    output_folder,
    print_json,
)
from jobs.label.verify_input import verify_input
from jobs.output.verify import verify as verify_output
from mtl_core.errors import JobError


@click.command()
@finished_argument
@click.argument("inputs", nargs=-1, metavar="[INPUT…]", shell_complete=complete.files)
@click.option(
    "--input",
    "with_input",
    is_flag=True,
    help="Also read the input again and compare every column carried through, row by row.",
)
@generation_option
@json_option
def verify(
    job: str, inputs: tuple[str, ...], with_input: bool, generation: int | None, as_json: bool
) -> None:
    """Check that a finished output holds every input row once, and every file as it was written.

    INPUT are the files to compare with, in the job's order, where they no longer lie where the job
    read them. Of an output that was appended to, that is the order of the manifest.

    \b
    Examples:
      mtl verify out/
      mtl verify out/ --input
      mtl verify s3://bucket/out moved/reviews.csv
      mtl verify label-3f2a9c0d1b7e --json
    """
    output = output_folder(job)
    counts, problems = verify_output(output, generation)
    compared = with_input or bool(inputs)
    if compared and not problems:  # else the rows cannot be laid side by side
        problems = verify_input(output, inputs, generation)
    if as_json:
        print_json({"ok": not problems, "rows": counts, "problems": problems})
    elif not problems:
        which = f", generation {generation}" if generation else ""
        click.echo(
            f"{output}{which}: ok; {counts['total']:,} input rows = {counts['labelled']:,} "
            f"labelled + {counts['errors']:,} error rows, each row_id once, "
            f"{counts['parts']:,} parts" + ("; every column as in the input" if compared else "")
        )
    if problems:
        raise JobError(f"{output}: {'; '.join(problems)}")
