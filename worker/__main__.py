"""``python -m worker``: run one worker. ``mtl worker`` is its front; its help is there."""

import os
import sys

import click

from mtl_core.errors import MtlError


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
