"""``mtl worker``."""

import os
from typing import Any

import click

from jobs.cli.shared.common import connect
from jobs.ledger.connection import reachable
from jobs.settings import settings
from mtl_core.errors import SettingsError
from mtl_core.processes import program


class Children(click.IntRange):
    """A number from 1 on, or ``auto``."""

    name = "auto|number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The number, or ``auto`` as it is."""
        return value if value == "auto" else super().convert(value, param, ctx)


@click.command()
@click.option(
    "--concurrency",
    type=Children(1),
    default=1,
    show_default=True,
    help="Children: one for all cores of a CPU, or one a GPU (auto); each takes a card that "
    "no other worker here has.",
)
@click.option(
    "--queues",
    help="What to serve, comma-separated: label, train (jobs of that kind, of every priority), or "
    "single queues as label.high. [label,train]",
)
@click.option(
    "--loglevel",
    type=click.Choice(["debug", "info", "warning", "error"]),
    default="info",
    show_default=True,
)
@click.option("--check", is_flag=True, help="Ask this machine's workers whether they consume.")
def worker(concurrency: int | str, queues: str | None, loglevel: str, check: bool) -> None:
    """Run a worker on the Redis of MTL_REDIS_URL until it is stopped.

    SIGTERM or Ctrl-C: it gives its shard back after the current batch and leaves.

    --check is for health checks: exit code 0 if all workers of this machine answer.

    \b
    Examples:
      MTL_REDIS_URL=redis://localhost:6379/0 mtl worker
      mtl worker --concurrency auto
      mtl worker --check
    """
    url = settings().redis_url
    if url is None:
        raise SettingsError("a worker needs MTL_REDIS_URL, for example redis://localhost:6379/0")
    if check:
        from jobs.ledger.health import check_workers_here

        ledger = connect(url, settings())
        with reachable(url):
            click.echo(f"ok: {', '.join(check_workers_here(ledger.redis, url))}")
        return
    arguments = ["--concurrency", str(concurrency), "--loglevel", loglevel]
    if queues:
        arguments += ["--queues", queues]
    # A program of its own: jobs may not import worker, and a worker's parent must not load torch.
    command = program("worker", *arguments)
    os.execv(command[0], command)
