"""``python -m worker``: run one worker. ``mtl worker`` is its front; its help is there."""

import atexit
import os
import sys

import click

from jobs.local import EmbeddedRedis, stop_if_unused
from jobs.settings import settings
from mtl_core.errors import MtlError


def stop_abandoned_server(parent_pid: int) -> None:
    """Stop the embedded Redis when the command that started it was killed."""
    if os.getppid() != parent_pid:
        stop_if_unused(EmbeddedRedis(settings().state_dir))


@click.command()
@click.option("--concurrency", type=click.IntRange(1), default=1)
@click.option("--queues", default=None)
@click.option("--loglevel", default="info")
def main(concurrency: int, queues: str | None, loglevel: str) -> None:
    """Run a worker until it is told to leave."""
    os.environ["MTL_WORKER_CHILDREN"] = str(concurrency)
    try:
        from worker import app as worker_app

        worker_app.check_ledger()
    except MtlError as error:
        click.echo(f"mtl worker: {error}", err=True)
        sys.exit(error.exit_code)
    embedded_in = os.environ.get("MTL_PARENT_PID")
    if embedded_in is not None:
        atexit.register(stop_abandoned_server, int(embedded_in))
    # Node names must differ: Celery warns of two workers of one name, and status shows them.
    worker_app.app.worker_main(
        [
            "worker",
            f"--hostname=mtl-{os.getpid()}@%h",
            f"--concurrency={concurrency}",
            "--pool=prefork",
            f"--queues={queues or worker_app.queues()}",
            f"--loglevel={loglevel}",
            *("--without-gossip", "--without-mingle", "--without-heartbeat"),
        ]
    )


if __name__ == "__main__":
    main()
