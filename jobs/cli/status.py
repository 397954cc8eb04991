"""``mtl status`` and ``mtl jobs``."""

import time
from typing import Any

import click
from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from jobs.cli import complete
from jobs.cli.common import backend, json_option, print_json
from jobs.connection import reachable
from jobs.ledger import Ledger
from jobs.presence import Presence
from jobs.snapshot import Snapshot

WATCH_S = 1.0


@click.command()
@click.argument("job", required=False, shell_complete=complete.jobs)
@click.option("--watch", is_flag=True, help="Go on showing until all have ended; Ctrl-C leaves.")
@json_option
def status(job: str | None, watch: bool, as_json: bool) -> None:
    """Show one job, or all that have not ended, and the workers.

    \b
    Examples:
      mtl status
      mtl status label-3f2a9c0d1b7e --json
    """
    with backend(worker=False) as where, reachable(where.ledger.url):
        while True:
            snapshots = _snapshots(where.ledger, job)
            if as_json:
                found = [snapshot.as_json() for snapshot in snapshots]
                if job:
                    print_json(found[0] | {"attempts": where.ledger.attempts(job)})
                else:
                    print_json(found)
            elif watch and Console().is_terminal:
                _dashboard(where.ledger, job)
                return
            else:
                _show(where.ledger, snapshots, job)
            if not watch or all(snapshot.ended for snapshot in snapshots):
                return
            time.sleep(WATCH_S)


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
        _print_table(snapshots)


def _prune(ledger: Ledger) -> None:
    ended = [job for job in ledger.job_ids() if ledger.snapshot(job).ended]
    for job in ended:
        ledger.delete(job)
    click.echo(f"{len(ended)} ended jobs forgotten", err=True)


def _snapshots(ledger: Ledger, job: str | None) -> list[Snapshot]:
    return [ledger.snapshot(name) for name in ([job] if job else ledger.active_jobs()[::-1])]


def _show(ledger: Ledger, snapshots: list[Snapshot], job: str | None) -> None:
    if not snapshots:
        click.echo("no job is running; `mtl jobs` lists the ended ones")
    else:
        _print_table(snapshots)
    if job and snapshots[0].reason:
        click.echo(f"reason: {snapshots[0].reason}")
    if job:
        for attempt in ledger.attempts(job):
            if attempt["outcome"] != "done":
                click.echo(_describe_attempt(attempt))
    workers = Presence(ledger.redis).workers()
    click.echo(f"workers: {', '.join(workers) if workers else 'none; start one with `mtl worker`'}")


def _dashboard(ledger: Ledger, job: str | None) -> None:
    """Jobs, queue, workers and what went wrong, on one screen, until all jobs have ended."""
    from rich.live import Live

    watched = [snapshot.id for snapshot in _snapshots(ledger, job)]
    with Live(auto_refresh=False) as screen:
        while True:
            # A job that ends while it is watched stays in sight.
            watched += [n for n in ([] if job else ledger.active_jobs()) if n not in watched]
            snapshots = [ledger.snapshot(name) for name in watched]
            screen.update(_screen(ledger, snapshots), refresh=True)
            if all(snapshot.ended for snapshot in snapshots):
                return
            time.sleep(WATCH_S)


def _screen(ledger: Ledger, snapshots: list[Snapshot]) -> Group:
    shards = [s.shards for s in snapshots if not s.ended]
    waiting = sum(count.total - count.done - count.failed for count in shards)
    busy = {worker for s in snapshots for worker in s.workers}
    workers = Presence(ledger.redis).workers()
    lines = [
        f"queue: {waiting:,} shards waiting or at work",
        f"workers: {len(workers)}, {len(busy)} at work",
        *(f"  {name}{' (at work)' if name in busy else ''}" for name in sorted(workers)),
        *(f"{s.id}: {s.reason}" for s in snapshots if s.reason),
    ]
    troubles = [
        a for s in snapshots for a in ledger.attempts(s.id) if a["outcome"] in ("failed", "lost")
    ]
    lines += [f"trouble: {_describe_attempt(attempt)}" for attempt in troubles[-5:]]
    return Group(_table(snapshots), *(Text(line) for line in lines))


def _describe_attempt(attempt: dict[str, Any]) -> str:
    began, ended = attempt.get("started_ms", attempt["ended_ms"]) / 1000, attempt["ended_ms"] / 1000
    return (
        f"shard {attempt['shard']}, attempt {attempt.get('attempt', '?')} on "
        f"{attempt.get('worker', '?')}, {time.strftime('%H:%M:%S', time.localtime(began))} for "
        f"{ended - began:.1f} s: {attempt['outcome']} ({attempt['reason']})"
    )


def _table(snapshots: list[Snapshot]) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in ("job", "state", "rows", "bad", "shards", "set aside", "since"):
        table.add_column(name, justify="left" if name in ("job", "state", "since") else "right")
    for s in snapshots:
        table.add_row(
            s.id,
            str(s.state),
            f"{s.rows.done:,}/{s.rows.total:,}",
            f"{s.rows.failed:,}",
            f"{s.shards.done:,}/{s.shards.total:,}",
            f"{s.shards.failed:,}",
            time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(s.changed_s)),
        )
    return table


def _print_table(snapshots: list[Snapshot]) -> None:
    table, console = _table(snapshots), Console()
    # Not on a terminal, a table must not be folded to 80 columns.
    console.print(table) if console.is_terminal else Console(width=160).print(table)
