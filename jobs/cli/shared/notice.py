"""The option ``--notify``: an address that is told when a job comes to rest."""

import time

import click

from jobs import interrupt
from jobs.cli.shared.common import Backend
from jobs.ledger.notices import FINAL, ask, notice_of, why_untold
from jobs.notify import TIMEOUT_S
from mtl_core.errors import JobError

POLL_S = 0.25
PATIENCE_S = 3 * TIMEOUT_S
"""How long a command with a worker of its own waits for a notice to arrive."""

notify_option = click.option(
    "--notify",
    metavar="URL",
    help="POST JSON there when the job comes to rest, whatever way: its state, counts and output. "
    "Repeated for a day if it does not arrive; signed if MTL_NOTIFY_SECRET is set.",
)


def ask_for_notice(where: Backend, job: str, url: str | None, *, new: bool) -> None:
    """Have an address told of a job just submitted; without one nothing changes.

    Args:
        new: whether the job was not there before; of one that was done before nobody is told.
    """
    if url is not None and (new or where.ledger.state(job) not in FINAL):
        ask(where.ledger, job, url)


def wait_until_told(where: Backend, job: str) -> None:
    """Wait for a job's notice to arrive where the worker ends with this command."""
    if not where.embedded:
        return
    deadline = time.monotonic() + PATIENCE_S
    try:
        while notice_of(where.ledger, job) is not None:
            if time.monotonic() > deadline:
                why = why_untold(where.ledger, job) or "no answer"
                click.echo(f"nobody was told: {why}; the next command tries again", err=True)
                return
            where.keep_running()
            interrupt.check()
            time.sleep(POLL_S)
    except JobError:
        return  # it was forgotten meanwhile
