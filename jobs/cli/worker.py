"""``mtl worker``."""

import os
import sys

import click

from jobs.settings import settings
from mtl_core.errors import SettingsError


@click.command()
@click.option(
    "--concurrency",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Children: one a GPU, or one for all cores of a CPU.",
)
@click.option("--queues", help="Queues to serve, comma-separated. [label,train]")
@click.option(
    "--loglevel",
    type=click.Choice(["debug", "info", "warning", "error"]),
    default="info",
    show_default=True,
)
def worker(concurrency: int, queues: str | None, loglevel: str) -> None:
    """Run a worker on the Redis of MTL_REDIS_URL until it is stopped.

    SIGTERM or Ctrl-C: it gives its shard back after the current batch and leaves.

    \b
    Example:
      MTL_REDIS_URL=redis://localhost:6379/0 mtl worker
    """
    if settings().redis_url is None:
        raise SettingsError("a worker needs MTL_REDIS_URL, for example redis://localhost:6379/0")
    arguments = ["--concurrency", str(concurrency), "--loglevel", loglevel]
    if queues:
        arguments += ["--queues", queues]
    # Its own program: jobs may not import worker, and the parent must stay without torch.
    os.execv(sys.executable, [sys.executable, "-m", "worker", *arguments])
