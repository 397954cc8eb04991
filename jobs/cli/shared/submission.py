"""How a job is submitted: what `mtl label`, `relabel` and `train` are told beside it."""

from dataclasses import dataclass

import click

from jobs.cli.shared.common import require_redis_for_detach
from jobs.ledger.ledger import Ledger
from jobs.ledger.replicas import replicated
from jobs.notify import check_url
from jobs.settings import settings


@dataclass(frozen=True)
class Submission:
    """What was asked, each by the option of its name."""

    priority: str
    notify: str | None
    """An address to tell when the job comes to rest; None: nobody is told."""
    detach: bool
    quiet: bool
    as_json: bool

    def check(self) -> None:
        """Refuse what cannot be, before any input is read.

        Raises:
            SettingsError: nothing would outlive this command, or notices may not go to the address.
        """
        if self.detach:
            require_redis_for_detach()
        if self.notify is not None:
            check_url(self.notify, settings())


def warn_unless_replicated(ledger: Ledger) -> None:
    """Wait until a replica of Redis has what was submitted; say so if none confirms it.

    For a command that leaves a job to others: nobody would miss the job if Redis lost it.
    """
    if not replicated(ledger.redis):
        click.echo(
            "no replica of Redis has confirmed the job yet; if Redis fails over just now, look for "
            "it by `mtl jobs`",
            err=True,
        )
