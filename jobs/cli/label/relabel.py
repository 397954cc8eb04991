"""``mtl relabel``."""

from typing import Any

import click

from jobs.cli.label.label import (
    abstain_option,
    finish,
    only_option,
    top_option,
    typicality_option,
)
from jobs.cli.shared import complete
from jobs.cli.shared.common import (
    detach_option,
    finished_argument,
    json_option,
    output_folder,
    output_option,
    priority_option,
    quiet_option,
)
from jobs.cli.shared.notice import notify_option
from jobs.cli.shared.submission import Submission
from jobs.label.relabel import prepare_relabel
from jobs.label.request import LabelRequest
from jobs.settings import settings


@click.command()
@finished_argument
@click.option(
    "--model",
    required=True,
    help="The new model: a name (see `mtl models`), folder or s3:// address.",
    shell_complete=complete.models,
)
@output_option("OUT2", "Folder or s3:// address for the new output.")
@only_option
@top_option
@abstain_option
@typicality_option
@notify_option
@priority_option
@detach_option
@quiet_option
@json_option
def relabel(
    job: str,
    notify: str | None,
    priority: str,
    detach: bool,
    quiet: bool,
    as_json: bool,
    **asked: Any,
) -> None:
    """Label a finished output anew with another model, from its embeddings where they fit.

    Where the new model has the encoder of the one that made OUT, no text is encoded; else, or if
    OUT holds no embeddings or only their signs, the texts are encoded again, and the reason is
    said. Rows keep their row_id, the columns of your own, and the form of the embedding; rows in
    OUT/errors stay errors. OUT itself is not changed.

    \b
    Example:
      mtl relabel out/ --model mine -o out2/
    """
    submission = Submission(priority, notify, detach, quiet, as_json)
    submission.check()
    request = LabelRequest(inputs=(), **asked)
    made = prepare_relabel(output_folder(job), request, settings())
    for note in made.notes if not quiet else ():
        click.echo(note, err=True)
    finish(made, submission)
