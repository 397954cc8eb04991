"""``mtl label``."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from jobs.cli.shared import complete
from jobs.cli.shared.appended import appended_line, said_skipped
from jobs.cli.shared.common import (
    backend,
    detach_option,
    json_option,
    output_option,
    print_json,
    priority_option,
    quiet_option,
)
from jobs.cli.shared.notice import ask_for_notice, notify_option, wait_until_told
from jobs.cli.shared.plain import count
from jobs.cli.shared.submission import Submission, warn_unless_replicated
from jobs.cli.shared.summary import finish_label, print_result
from jobs.cli.shared.watch import JobProgress, watch
from jobs.input.sniff import FORMATS
from jobs.label.append import NothingNew, prepare_append
from jobs.label.rates import kept_rates, slower_than_float32
from jobs.label.request import SHARD_ROWS, SHARD_TOKENS, LabelJob, LabelRequest, prepare_label
from jobs.label.submit import open_label, plan_label
from jobs.ledger.messages import Publisher
from jobs.settings import settings
from mtl_core.config import EMBEDDINGS, LABEL_PRECISIONS
from mtl_core.model.registry import DEFAULT_MODEL

only_option = click.option(
    "--only",
    metavar="TASK",
    multiple=True,
    help="Write this task's labels only.",
    shell_complete=complete.tasks,
)
top_option = click.option(
    "--top",
    type=click.IntRange(0, 100),
    default=LabelRequest.top,
    show_default=True,
    metavar="K",
    help="Add a column TASK_top with the K most probable labels and their scores.",
)
abstain_option = click.option(
    "--abstain-below",
    type=click.FloatRange(0.8, 0.99),
    metavar="PRECISION",
    help="Leave a label empty (null) unless labels as sure as it were right this often, 0.80 to "
    "0.99, on held-out rows.",
)
typicality_option = click.option(
    "--min-typicality",
    type=click.FloatRange(0, 1),
    default=LabelRequest.min_typicality,
    metavar="P",
    help="Leave a label empty (null) where TASK_typicality is below P: the row is unlike the texts "
    "that the task was trained on.",
)


@click.command()
@click.argument("inputs", nargs=-1, required=True, metavar="INPUT…", shell_complete=complete.files)
@output_option("OUT", "Folder or s3:// address for the Parquet output.")
@click.option(
    "--text-column",
    "text_columns",
    metavar="C",
    multiple=True,
    help="Column that holds the text; A.B for field B of a nested column; given several times, "
    "their texts are joined.  [default: found]",
)
@click.option(
    "--id-column",
    metavar="C",
    help="Check first that this column holds another value in every row.",
)
@click.option(
    "--input-format",
    type=click.Choice(FORMATS),
    help="Of stdin, or of files whose name does not tell.  [default: found]",
)
@click.option(
    "--encoding",
    metavar="NAME",
    help="Of text files, as Python names it: cp1252, koi8-r, shift_jis, …  [default: found]",
)
@click.option(
    "--no-header",
    is_flag=True,
    help="csv and tsv files begin with a row; columns get the names column_1, column_2, …",
)
@click.option("--limit", type=click.IntRange(1), metavar="N", help="Label the first N rows only.")
@click.option(
    "--append",
    is_flag=True,
    help="Add to OUT, if it is there: files that it holds already are skipped, and with "
    "--id-column rows that it holds.",
)
@click.option(
    "--dry-run",
    is_flag=True,
    help="Queue nothing; say how many rows, shards and tokens there are, and how long it may take.",
)
@click.option(
    "--model",
    default=DEFAULT_MODEL,
    show_default=True,
    help="A name (see `mtl models`), folder or s3:// address.",
    shell_complete=complete.models,
)
@only_option
@top_option
@click.option(
    "--embedding",
    type=click.Choice(EMBEDDINGS),
    default=LabelRequest.embedding,
    show_default=True,
    help="How to write the 256-d embedding: int8 comes with a scale, binary as the 256 signs.",
)
@click.option(
    "--precision",
    type=click.Choice(LABEL_PRECISIONS),
    default=LabelRequest.precision,
    show_default=True,
    help="What to compute in; auto: bfloat16 where a worker's chip has it, float16 on an older "
    "GPU, else float32. int8 is calibrated on the job's first texts.",
)
@abstain_option
@typicality_option
@click.option(
    "--shard-rows",
    type=click.IntRange(1, 1_000_000),
    default=None,
    show_default=f"{SHARD_ROWS}, more where workers are fast",
    help="Rows of a shard, at most; a job begins with smaller ones.",
)
@click.option(
    "--shard-tokens",
    type=click.IntRange(1),
    default=None,
    show_default=f"{SHARD_TOKENS}, more where workers are fast",
    help="Estimated tokens of a shard, at most.",
)
@click.option(
    "--cache",
    is_flag=True,
    help="Look texts up among those labelled before on a worker's machine, and keep new ones.",
)
@notify_option
@priority_option
@detach_option
@quiet_option
@json_option
def label(
    no_header: bool,
    append: bool,
    dry_run: bool,
    notify: str | None,
    priority: str,
    detach: bool,
    quiet: bool,
    as_json: bool,
    **asked: Any,
) -> None:
    """Label files of sentences: topic, sentiment and an embedding for each row, as Parquet.

    INPUT is a txt (a sentence a line), csv, tsv, jsonl, json (an array of objects), parquet or
    arrow file, each also .gz, .bz2, .xz or .zst; a folder or a 'pattern*' of them; - for stdin; an
    https://, s3:// or gs:// address; or hf://NAME:SPLIT, a dataset. Delimiter and encoding are
    found, and said where they are not comma and UTF-8. All columns are carried through. A row that
    cannot be labelled lands in OUT/errors with file, row and reason. The same command again goes on
    where it was stopped.

    \b
    Examples:
      mtl label reviews.csv -o out/
      mtl label 'day*.jsonl.gz' --text-column title --text-column review.body -o out/
      zcat reviews.txt.gz | mtl label - -o out/
      mtl label 'weeks/*.csv' -o out/ --append
      mtl label s3://bucket/in/ -o s3://bucket/out --model s3://bucket/models/mine
    """
    submission = Submission(priority, notify, detach, quiet, as_json)
    submission.check()
    request = LabelRequest(header=False if no_header else None, **asked)
    if append and request.limit is not None:
        raise click.UsageError("--append takes whole files; leave --limit out")
    job = prepare_append(request, settings()) if append else prepare_label(request, settings())
    if isinstance(job, NothingNew):
        _say_nothing_new(job, submission)
        return
    if len(job.spec.inputs) > 1 and not quiet:
        click.echo(_files(job), err=True)
    slower = slower_than_float32(settings(), request.precision)
    for note in (*job.notes, *filter(None, [slower])) if not quiet else ():
        click.echo(note, err=True)
    if dry_run:
        _print_estimate(job, as_json)
        return
    finish(job, submission)


def finish(job: LabelJob, submission: Submission) -> None:
    """Queue a job, wait for its end unless it is detached, and print what became of it.

    Raises:
        MtlError: it cannot be queued, or did not end ``done``.
    """
    if not job.finished:
        _run(job, submission)
    else:
        if not submission.quiet and not submission.as_json:
            click.echo(f"{job.id} was done before; this is its output", err=True)
        print_result(job, submission.as_json)
    if submission.detach:
        print_json({"id": job.id}) if submission.as_json else click.echo(job.id)


def _say_nothing_new(nothing: NothingNew, submission: Submission) -> None:
    if submission.as_json:
        skipped = {"files": nothing.files, "rows": nothing.rows}
        print_json({"id": None, "output": str(nothing.output), "skipped": skipped})
        return
    what = said_skipped(nothing.files, nothing.rows)
    # Where an id is waited for, there is none.
    click.echo(f"nothing new: {nothing.output} holds {what} already", err=submission.detach)


def _files(job: LabelJob) -> str:
    names = [Path(file.name).name for file in job.spec.inputs]
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"{len(names)} files: {', '.join(names[:3])}{more}"


def _print_estimate(job: LabelJob, as_json: bool) -> None:
    from jobs.label.estimate import estimate

    found = estimate(job)
    if as_json:
        print_json({"id": job.id, **asdict(found)})
        return
    click.echo(
        f"{found.rows:,} rows in {count(found.shards, 'shard')}, {found.bad_rows:,} would go to "
        f"errors; about {found.tokens:,} tokens"
    )
    if job.spec.appends:
        click.echo(appended_line(job.spec))
    click.echo(
        f"about {_duration(found.seconds)} on one worker like this machine ({found.engine}, "
        f"{found.tokens_per_s:,.0f} tokens/s measured on {found.measured_rows:,} rows)"
    )
    rates = kept_rates(settings())
    click.echo(str(rates or "`mtl doctor --measure` finds which precision is fastest here"))
    click.echo("nothing was queued (--dry-run)")


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _run(job: LabelJob, submission: Submission) -> None:
    detach, as_json = submission.detach, submission.as_json
    silent = submission.quiet or as_json or detach
    with backend(worker=not detach) as where, JobProgress(job.id, silent) as progress:
        for old, renamed in job.source.renamed:
            progress.say(f"column '{old}' is carried through as '{renamed}'")
        publisher = Publisher(where.ledger.url)

        def planned() -> None:
            progress.show(where.ledger.snapshot(job.id))

        def plan_if_nobody_does() -> bool:
            return plan_label(where.ledger, publisher, job, planned)

        try:
            if not (new := open_label(where.ledger, job, submission.priority)):
                progress.say(f"{job.id} has been submitted before; joining it")
            ask_for_notice(where, job.id, submission.notify, new=new)
            snapshot = watch(where, progress, plan_if_nobody_does, until_planned=detach)
            if detach:
                warn_unless_replicated(where.ledger)
            else:
                wait_until_told(where, job.id)
        finally:
            publisher.close()
    if not detach:
        finish_label(job, snapshot, as_json=as_json)
