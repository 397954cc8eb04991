"""Watching a job until it ends: a progress bar on a terminal, plain lines elsewhere."""

import time
from collections.abc import Callable
from typing import Any, cast

import redis
from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

from jobs import interrupt
from jobs.cli.shared.common import Backend
from jobs.cli.shared.plain import plain
from jobs.cli.shared.speed import Speed
from jobs.ledger import cancel
from jobs.ledger.connection import refused
from jobs.ledger.ledger import Ledger
from jobs.ledger.lifecycle import PLANNABLE
from jobs.ledger.presence import Presence
from jobs.ledger.replicas import Continuity
from jobs.ledger.scripts import key
from jobs.ledger.snapshot import Snapshot
from mtl_core.errors import JobError, LedgerUnreachableError, MtlError

POLL_S = 0.25
PLAIN_LINE_S = 5.0
SAME_LINE_S = 60.0
"""After so long a line comes again even if it says the same."""
RATE_WINDOW_S = 10.0
NO_WORKER_HINT_S = 5.0
REDIS_LOOK_S = 3.0
EMBEDDED_PATIENCE_S = 20.0
VANISHED = (
    "{job} is no longer in this Redis: it was forgotten, or lost when Redis failed over or was "
    "started again; the same command submits it anew"
)


class JobProgress:
    """Shows snapshots of one job on standard error; use as a context."""

    def __init__(self, job: str, quiet: bool) -> None:
        self.job, self.quiet = job, quiet
        self.console = Console(stderr=True)
        self.live = self.console.is_terminal and not quiet
        self._bar = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.fields[counts]}", markup=False),
            TimeRemainingColumn(),
            console=self.console,
            transient=True,
        )
        self._task: TaskID | None = None
        self._speed = Speed(RATE_WINDOW_S)
        self._next_line = time.monotonic() + PLAIN_LINE_S
        self._last_line = ""
        self._started = time.monotonic()
        self._hinted = False
        self._full = False
        self._next_look = 0.0
        self._continuity: Continuity | None = None

    def __enter__(self) -> "JobProgress":
        if self.live:
            self._bar.start()
            self._task = self._bar.add_task("starting", total=None, counts="")
        return self

    def __exit__(self, *_: object) -> None:
        if self.live:
            self._bar.stop()

    def say(self, line: str) -> None:
        """Print one plain line."""
        if not self.quiet:
            self.console.print(plain(line), markup=False, highlight=False, soft_wrap=True)

    def show(self, snapshot: Snapshot) -> None:
        """Show where the job stands."""
        counts = self._counts(snapshot)
        if self._task is not None:
            self._bar.update(
                self._task,
                description=self._what(snapshot),
                completed=snapshot.rows.done + snapshot.rows.failed,
                total=snapshot.rows.total or None,
                counts=counts,
            )
        elif (now := time.monotonic()) >= self._next_line:
            line = f"{self._what(snapshot)}: {counts}"
            if line != self._last_line or now >= self._next_line + SAME_LINE_S - PLAIN_LINE_S:
                self._next_line, self._last_line = now + PLAIN_LINE_S, line
                self.say(line)

    def hint_without_workers(self, workers: int) -> None:
        """Say once that no worker is there, after that has lasted for a while.

        Args:
            workers: how many workers are announced.
        """
        late = time.monotonic() - self._started > NO_WORKER_HINT_S
        if not workers and late and not self._hinted:
            self._hinted = True
            self.say("no worker is running: start one with `mtl worker`; the job waits")

    def look_at_redis(self, ledger: Ledger) -> None:
        """Say when another Redis has taken over; and once that it has no room, or has again."""
        if time.monotonic() < self._next_look:
            return
        self._next_look = time.monotonic() + REDIS_LOOK_S
        self._continuity = self._continuity or Continuity(ledger.redis)
        if (happened := self._continuity.look()[1]) is not None:
            self.say(str(happened))
        memory = cast(dict[str, Any], ledger.redis.info("memory"))
        full = 0 < int(memory["maxmemory"]) <= int(memory["used_memory"])
        if full != self._full:
            self._full = full
            self.say(
                "Redis is full: free memory or raise its maxmemory; the job waits"
                if full
                else "Redis has room again; the job goes on"
            )

    def _what(self, snapshot: Snapshot) -> str:
        return " ".join(
            str(part) for part in (snapshot.state, snapshot.note.get("stage")) if part is not None
        )

    def _counts(self, snapshot: Snapshot) -> str:
        done = snapshot.rows.done
        rate = self._speed.rate(done)
        parts = [f"{done:,}/{snapshot.rows.total:,} rows"] if snapshot.rows.total else []
        if rate > 0:
            parts.append(f"{rate:,.0f} rows/s")
        if snapshot.rows.failed:
            parts.append(f"{snapshot.rows.failed:,} bad")
        parts.append(f"{len(snapshot.workers)} worker{'s' * (len(snapshot.workers) != 1)}")
        if snapshot.workers and not done and not snapshot.note:
            parts[-1] += " (loading the model)"
        if snapshot.note.get("steps"):
            parts.append(f"step {snapshot.note['step']:,}/{snapshot.note['steps']:,}")
            parts.append(f"loss {snapshot.note['loss']:.3f}")
        return ", ".join(parts)


def watch(
    backend: Backend,
    progress: JobProgress,
    plan: Callable[[], bool] = lambda: False,
    *,
    until_planned: bool = False,
) -> Snapshot:
    """Wait until the job has ended, or is paused; Ctrl-C cancels it.

    With an embedded worker, Ctrl-C only stops this command, since nobody else would go on with the
    job. The job stays as it is, and the same command goes on with it.

    Args:
        plan: called while the job is not planned: the process that planned it may have died.
        until_planned: return as soon as it is planned.
    Raises:
        LedgerUnreachableError: the embedded Redis has gone. A shared one is waited for.
    """
    try:
        return _watch(backend, progress, plan, until_planned=until_planned)
    except KeyboardInterrupt:
        if not progress.quiet:
            interrupt.explained()
        if backend.embedded:
            progress.say("stopped; the same command goes on from here")
        else:
            _cancel(backend.ledger, progress)
        raise


def _cancel(ledger: Ledger, progress: JobProgress) -> None:
    job = progress.job
    asked = False
    try:
        cancel.ask(ledger, job)
        asked = True
        progress.say(f"cancelling {job}; Ctrl-C again leaves without waiting")
        snapshot = cancel.wait(ledger, job)
    except KeyboardInterrupt:
        progress.say(
            f"left; {job} stops after the batches under way, see `mtl status {job}`"
            if asked
            else f"left before Redis was asked: {job} may go on; `mtl cancel {job}` stops it"
        )
        raise
    done, total = snapshot.rows.done, snapshot.rows.total
    progress.say(
        f"{job} {snapshot.state}; {done:,} of {total:,} rows are done; the same command, or "
        f"`mtl retry {job}`, goes on from here"
    )


def _watch(
    backend: Backend,
    progress: JobProgress,
    plan: Callable[[], bool],
    *,
    until_planned: bool,
) -> Snapshot:
    lost_at: float | None = None
    while True:
        interrupt.check()
        try:
            snapshot = backend.ledger.snapshot(progress.job)
            if not backend.embedded and not snapshot.workers:
                progress.hint_without_workers(len(Presence(backend.ledger.redis).workers()))
            progress.show(snapshot)
            progress.look_at_redis(backend.ledger)
            if snapshot.resting or (until_planned and snapshot.state not in PLANNABLE):
                return snapshot
            if snapshot.state in PLANNABLE:
                plan()
            lost_at = None
        except JobError as error:
            if not backend.ledger.redis.exists(key(progress.job, "job")):
                raise JobError(VANISHED.format(job=progress.job)) from error
            raise
        except (redis.RedisError, LedgerUnreachableError) as error:
            if refused(error) or refused(error.__cause__):
                raise
            lost_at = lost_at or _say_lost(progress, error)
            if backend.embedded and time.monotonic() - lost_at > EMBEDDED_PATIENCE_S:
                raise LedgerUnreachableError(
                    "the private redis-server has gone; the same command goes on from there"
                ) from error
        else:
            backend.keep_running()
        time.sleep(POLL_S)


def _say_lost(progress: JobProgress, error: Exception) -> float:
    line = str(error) if isinstance(error, MtlError) else f"Redis does not answer ({error})"
    progress.say(f"{line}; waiting for it")
    return time.monotonic()
