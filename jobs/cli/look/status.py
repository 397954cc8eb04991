"""``mtl status`` and ``mtl jobs``."""

import time
from dataclasses import asdict
from typing import Any

import click
from rich.console import Console

from jobs.cli.shared import complete
from jobs.cli.shared.appended import appended_json, appended_line
from jobs.cli.shared.common import Backend, backend, json_option, print_json
from jobs.cli.shared.dashboard import (
    dashboard,
    describe_attempt,
    job_table,
    takeover_lines,
    unfit_lines,
)
from jobs.cli.shared.plain import plain, print_table
from jobs.cli.shared.stuck import Watched, no_workers
from jobs.cli.shared.unlike import unlike_lines
from jobs.ledger.connection import reachable
from jobs.ledger.ledger import Ledger
from jobs.ledger.presence import Presence
from jobs.ledger.replicas import takeovers
from jobs.ledger.snapshot import Snapshot
from jobs.output.manifest import sum_counts
from jobs.specs import LabelSpec

WATCH_S = 5.0


@click.command()
@click.argument("job", required=False, shell_complete=complete.jobs)
@click.option(
    "--watch",
    is_flag=True,
    help="Go on showing until nothing more will happen by itself; Ctrl-C leaves.",
)
@json_option
def status(job: str | None, watch: bool, as_json: bool) -> None:
    """Show one job, or all that have not ended, and the workers.

    \b
    Examples:
      mtl status
      mtl status label-3f2a9c0d1b7e --json
    """
    with backend(worker=False) as where, reachable(where.ledger.url):
        if watch and not as_json and Console().is_terminal:
            dashboard(where, job)
            return
        watched = Watched(where.ledger, embedded=where.embedded)
        shown: list[dict[str, Any]] = []
        while True:
            snapshots = _snapshots(where.ledger, job)
            found = [snapshot.as_json() for snapshot in snapshots]
            if found != shown or not found:  # a log needs no line that repeats the last
                shown = found
                _print(where, snapshots, job, as_json)
            if not watch or watched.rests(snapshots):
                for line in watched.hint(snapshots):
                    click.echo(line, err=True)
                return
            time.sleep(WATCH_S)


def _print(where: Backend, snapshots: list[Snapshot], job: str | None, as_json: bool) -> None:
    if not as_json:
        _show(where, snapshots, job)
        return
    found = [snapshot.as_json() for snapshot in snapshots]
    print_json(found[0] | _of_one_job(where.ledger, job) if job else found)


def _of_one_job(ledger: Ledger, job: str) -> dict[str, Any]:
    declined = {name: entry["reason"] for name, entry in ledger.declined(job).items()}
    untypical = _untypical(ledger, job)
    return {
        "attempts": ledger.attempts(job),
        **({"declined": declined} if declined else {}),
        **({"untypical": untypical} if untypical else {}),
        **_takeovers(ledger, job),
        **_appended(ledger, job),
    }


def _takeovers(ledger: Ledger, job: str) -> dict[str, Any]:
    """The times that another Redis took over since the job was submitted."""
    since = ledger.snapshot(job).created_s
    found = [asdict(t) for t in takeovers(ledger.redis).values() if t.at_s >= since]
    return {"redis_takeovers": found} if found else {}


def _appended(ledger: Ledger, job: str) -> dict[str, Any]:
    """Of a job that appends: to what."""
    spec = ledger.spec(job)
    if not isinstance(spec, LabelSpec) or not spec.appends:
        return {}
    return {"appends": {"output": spec.appends, **appended_json(spec)}}


def _untypical(ledger: Ledger, job: str) -> dict[str, int]:
    """By task, rows of a label job so far that are unlike the texts the task was trained on."""
    return sum_counts(result.get("untypical", {}) for result in ledger.results(job).values())


@click.command()
@click.option("--prune", is_flag=True, help="Forget all jobs that have ended; outputs stay.")
@json_option
def jobs(prune: bool, as_json: bool) -> None:
    """List all jobs, newest first. Records of ended jobs are kept for MTL_RETENTION_S (30 days).

    \b
    Examples:
      mtl jobs --json
      mtl jobs --prune
    """
    with backend(worker=False) as where, reachable(where.ledger.url):
        where.ledger.forget_expired()
        if prune:
            _prune(where.ledger)
        snapshots = [where.ledger.snapshot(job) for job in where.ledger.job_ids()]
    if as_json:
        print_json([snapshot.as_json() for snapshot in snapshots])
    elif not snapshots:
        click.echo("no jobs yet; start one with `mtl label FILE -o OUT`")
    else:
        print_table(job_table(snapshots), width=160)


def _prune(ledger: Ledger) -> None:
    ended = [job for job in ledger.job_ids() if ledger.snapshot(job).ended]
    for job in ended:
        ledger.delete(job)
    click.echo(f"{len(ended)} ended jobs forgotten", err=True)


def _snapshots(ledger: Ledger, job: str | None) -> list[Snapshot]:
    return [ledger.snapshot(name) for name in ([job] if job else ledger.active_jobs()[::-1])]


def _show(where: Backend, snapshots: list[Snapshot], job: str | None) -> None:
    if not snapshots:
        click.echo("no job is running; `mtl jobs` lists the ended ones")
    else:
        print_table(job_table(snapshots), width=160)
    if job and snapshots[0].reason:
        click.echo(f"reason: {plain(snapshots[0].reason)}")
    if job:
        spec = where.ledger.spec(job)
        if isinstance(spec, LabelSpec) and spec.appends:
            click.echo(plain(appended_line(spec)))
        for line in unlike_lines(snapshots[0].rows.done, _untypical(where.ledger, job)):
            click.echo(line)
        for attempt in where.ledger.attempts(job):
            if attempt["outcome"] != "done":
                click.echo(plain(describe_attempt(attempt)))
        for name, entry in sorted(where.ledger.declined(job).items()):
            click.echo(plain(f"declined by {name}: {entry['reason']}"))
    presence = Presence(where.ledger.redis)
    workers = presence.workers()
    click.echo(f"workers: {', '.join(workers) or no_workers(embedded=where.embedded)}")
    for line in (*unfit_lines(presence), *takeover_lines(where.ledger)):
        click.echo(plain(line))
