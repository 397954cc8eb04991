"""``mtl status --watch``: jobs, queue, workers and what went wrong, on one screen."""

import time
from typing import Any, Literal, cast

from rich.console import Group
from rich.live import Live
from rich.table import Table

from jobs.cli.shared.common import Backend
from jobs.cli.shared.plain import cell
from jobs.cli.shared.speed import Speed
from jobs.cli.shared.stuck import Watched, no_workers
from jobs.ledger.ledger import Ledger
from jobs.ledger.presence import Presence
from jobs.ledger.replicas import takeovers
from jobs.ledger.snapshot import Snapshot

REFRESH_S = 1.0
RATE_WINDOW_S = 15.0
SHOWN_WORKERS = 20
SHOWN_TROUBLES = 5
TOLD_S = 24 * 3600
"""How long it is told that another Redis has taken over."""


def dashboard(where: Backend, job: str | None) -> None:
    """Show the screen until all jobs rest; a job that ends while it is watched stays in sight."""
    ledger = where.ledger
    looking = Watched(ledger, embedded=where.embedded)
    watched = [job] if job else ledger.active_jobs()[::-1]
    speeds: dict[str, Speed] = {}
    with Live(auto_refresh=False) as screen:
        while True:
            watched += [n for n in ([] if job else ledger.active_jobs()) if n not in watched]
            snapshots = [ledger.snapshot(name) for name in watched]
            speeds |= {s.id: Speed(RATE_WINDOW_S) for s in snapshots if s.id not in speeds}
            rates = {s.id: speeds[s.id].rate(s.rows.done) for s in snapshots}
            screen.update(_screen(where, looking, snapshots, rates), refresh=True)
            if looking.rests(snapshots):
                return
            time.sleep(REFRESH_S)


def _screen(
    where: Backend, looking: Watched, snapshots: list[Snapshot], rates: dict[str, float]
) -> Group:
    ledger = where.ledger
    lines = [
        *(f"{s.id}: {s.reason}" for s in snapshots if s.reason),
        *looking.hint(snapshots),
        *_queue_lines(ledger, snapshots),
        *_worker_lines(where),
        *takeover_lines(ledger),
    ]
    troubles = [
        a for s in snapshots for a in ledger.attempts(s.id) if a["outcome"] in ("failed", "lost")
    ]
    if troubles:
        lines.append(f"errors: {len(troubles)} attempts failed or were lost; the latest")
        lines += [f"  {describe_attempt(attempt)}" for attempt in troubles[:SHOWN_TROUBLES]]
    return Group(job_table(snapshots, rates), *(cell(line) for line in lines))


def _queue_lines(ledger: Ledger, snapshots: list[Snapshot]) -> list[str]:
    from jobs.ledger.messages import (
        queue_names,  # loads Celery, which a plain status can do without
    )

    shards = [s.shards for s in snapshots if not s.ended]
    left = sum(count.total - count.done - count.failed for count in shards)
    depths = {name: cast(int, ledger.redis.llen(name)) for name in queue_names()}
    waiting = ", ".join(f"{depth:,} in {name}" for name, depth in depths.items() if depth)
    return [f"queue: {left:,} shards left; messages waiting: {waiting or 'none'}"]


def _worker_lines(where: Backend) -> list[str]:
    presence = Presence(where.ledger.redis)
    workers = presence.workers()
    unfit = unfit_lines(presence)
    if not workers:
        return [f"workers: {no_workers(embedded=where.embedded)}", *unfit]
    doing = {name: presence.busy(name) for name in workers}
    lines = [f"workers: {len(workers)}, {sum(map(bool, doing.values()))} at work"]
    for name in workers[:SHOWN_WORKERS]:
        what = ", ".join(f"{busy.job} shard {busy.shard}" for busy in doing[name])
        lines.append(f"  {name}: {what or 'idle'}")
    if len(workers) > SHOWN_WORKERS:
        lines.append(f"  and {len(workers) - SHOWN_WORKERS} more")
    return lines + unfit


def unfit_lines(presence: Presence) -> list[str]:
    """A line for each child of a worker that, in the last day, failed at what other children did.

    A worker all of whose children failed so has left.
    """
    return [f"unfit: {child}: {reason}" for child, reason in presence.all_unfit().items()]


def takeover_lines(ledger: Ledger) -> list[str]:
    """A line for each time that another Redis took over in the last day."""
    recent = [t for t in takeovers(ledger.redis).values() if time.time() - t.at_s < TOLD_S]
    return [f"{time.strftime('%H:%M:%S', time.localtime(t.at_s))}: {t}" for t in recent]


def job_table(snapshots: list[Snapshot], rates: dict[str, float] | None = None) -> Table:
    """A table with a line for each job; with ``rates``, in rows a second, also the time left."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    names = ["job", "state", "rows", "bad", "shards", "set aside", "since"]
    names[3:3] = ["rows/s", "left"] if rates is not None else []
    # On a narrow terminal cells are folded, never cut; a job's id stays whole, to be copied, and
    # a date beside its time.
    least = {"job": max((len(s.id) for s in snapshots), default=0), "since": len("2026-11-26")}
    for name in names:
        justify: Literal["left", "right"] = "left" if name in ("job", "state", "since") else "right"
        table.add_column(name, justify=justify, overflow="fold", min_width=least.get(name))
    for s in snapshots:
        cells = [
            s.id,
            " ".join(str(part) for part in (s.state, s.note.get("stage")) if part is not None),
            f"{s.rows.done:,}/{s.rows.total:,}",
            f"{s.rows.failed:,}",
            f"{s.shards.done:,}/{s.shards.total:,}",
            f"{s.shards.failed:,}",
            time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(s.changed_s)),
        ]
        if rates is not None:
            cells[3:3] = _speed(s, rates[s.id])
        table.add_row(*(cell(value) for value in cells))
    return table


def _speed(snapshot: Snapshot, rate: float) -> list[str]:
    if snapshot.ended or rate <= 0:
        return ["", ""]
    rows = snapshot.rows
    minutes, seconds = divmod(int(max(0, rows.total - rows.done - rows.failed) / rate), 60)
    return [f"{rate:,.0f}", f"{minutes}:{seconds:02}"]


def describe_attempt(attempt: dict[str, Any]) -> str:
    """One ended attempt: where, when, how long, and how it ended."""
    began, ended = attempt.get("started_ms", attempt["ended_ms"]) / 1000, attempt["ended_ms"] / 1000
    return (
        f"shard {attempt['shard']}, attempt {attempt.get('attempt', '?')} on "
        f"{attempt.get('worker', '?')}, {time.strftime('%H:%M:%S', time.localtime(began))} for "
        f"{ended - began:.1f} s: {attempt['outcome']} ({attempt['reason']})"
    )
