"""``mtl cancel`` and ``mtl retry``."""

import click

from jobs.cli.shared import complete
from jobs.cli.shared.common import (
    backend,
    json_option,
    print_json,
    quiet_option,
    require_redis_for_detach,
)
from jobs.cli.shared.submission import warn_unless_replicated
from jobs.cli.shared.summary import finish_label
from jobs.cli.shared.watch import JobProgress, watch
from jobs.label.again import label_job_of
from jobs.label.request import LabelJob
from jobs.label.submit import open_again, plan_label
from jobs.ledger.cancel import cancel_job
from jobs.ledger.connection import reachable
from jobs.ledger.ledger import Ledger
from jobs.ledger.lifecycle import ENDED, RESTING, JobState
from jobs.ledger.messages import Publisher
from jobs.specs import LabelSpec
from jobs.train.submit import submit_train
from mtl_core.errors import JobError


@click.command()
@click.argument("job", shell_complete=complete.jobs)
@json_option
def cancel(job: str, as_json: bool) -> None:
    """Stop a job after the batch under way; what is done stays, and `mtl retry` goes on from there.

    \b
    Example:
      mtl cancel label-3f2a9c0d1b7e
    """
    with backend(worker=False) as where, reachable(where.ledger.url):
        ledger = where.ledger
        state = ledger.state(job)
        if state in ENDED:
            raise JobError(f"{job} has ended already ({state})")
        snapshot = cancel_job(ledger, job)
    if as_json:
        print_json(snapshot.as_json())
    else:
        click.echo(
            f"{job} {snapshot.state}; {snapshot.rows.done:,} of {snapshot.rows.total:,} rows are "
            f"done; go on with `mtl retry {job}`"
        )


@click.command()
@click.argument("job", shell_complete=complete.jobs)
@click.option("--only-failed", is_flag=True, help="Of a partial job: the rows set aside.")
@click.option("--detach", is_flag=True, help="Let it go on and return.")
@quiet_option
@json_option
def retry(job: str, only_failed: bool, detach: bool, quiet: bool, as_json: bool) -> None:
    """Let a failed, paused, cancelled or partial job go on; finished shards are not run again.

    All that is not done is tried, rows set aside too.

    \b
    Examples:
      mtl retry label-3f2a9c0d1b7e
      mtl retry label-3f2a9c0d1b7e --only-failed --detach
    """
    if detach:
        require_redis_for_detach()
    label_job: LabelJob | None = None
    with backend(worker=not detach) as where, JobProgress(job, quiet or as_json) as progress:
        publisher = Publisher(where.ledger.url)
        with reachable(where.ledger.url):
            _check_may_retry(where.ledger, job, only_failed)
            spec = where.ledger.spec(job)
            if isinstance(spec, LabelSpec):
                label_job = label_job_of(job, spec)
                open_again(where.ledger, label_job)
                known = label_job

                def plan() -> bool:
                    return plan_label(where.ledger, publisher, known, lambda: None)

            else:
                submit_train(where.ledger, publisher, spec, where.ledger.snapshot(job).priority)

                def plan() -> bool:
                    return False

        snapshot = watch(where, progress, plan, until_planned=detach)
        if detach:
            warn_unless_replicated(where.ledger)
        publisher.close()
    if detach:
        print_json({"id": job}) if as_json else click.echo(job)
    elif label_job is not None:
        finish_label(label_job, snapshot, as_json=as_json)
    elif snapshot.state is not JobState.DONE:
        raise JobError(f"{job} {snapshot.state}: {snapshot.reason}")


def _check_may_retry(ledger: Ledger, job: str, only_failed: bool) -> None:
    state = ledger.state(job)
    if state is JobState.DONE:
        raise JobError(f"{job} is done; there is nothing to retry")
    if state not in RESTING:
        raise JobError(f"{job} is {state}; there is nothing to retry yet")
    if only_failed and state is not JobState.PARTIAL:
        raise JobError(f"{job} is {state}, not partial: leave --only-failed out to run the rest")
