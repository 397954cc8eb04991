"""``python -m worker``: run one worker. Users call it as ``mtl worker``, which has the help."""

import atexit
import os
import shutil
import sys
import tempfile
import time

import click

from jobs.embedded import EmbeddedRedis, stop_if_unused
from jobs.ledger.messages import queues_of
from jobs.ledger.presence import node_name
from jobs.settings import settings
from mtl_core.errors import MtlError
from mtl_core.processes import keep_current_folder_out, program
from worker.lease.heartbeat import leaving
from worker.process.cards import cards_here
from worker.process.own import take_name
from worker.process.threads import CHILDREN

RESTART_PAUSE_S = 2.0
EVENT_BEAT_S = 10
FAILED = 1
"""Exit code of a worker that ended itself because it does not work."""
METRICS_FOLDER = "PROMETHEUS_MULTIPROC_DIR"


def stop_abandoned_server(parent_pid: int) -> None:
    """Stop the embedded Redis when the command that started it was killed."""
    if os.getppid() != parent_pid:
        stop_if_unused(EmbeddedRedis(settings().state_dir))


@click.command()
@click.option("--concurrency", default="1")
@click.option("--queues", default=None)
@click.option("--loglevel", default="info")
def main(concurrency: str, queues: str | None, loglevel: str) -> None:
    """Run a worker until it is told to leave."""
    keep_current_folder_out()
    children = max(1, len(cards_here())) if concurrency == "auto" else int(concurrency)
    os.environ[CHILDREN] = str(children)
    try:
        served = queues_of(queues)
        if settings().metrics_port is not None:
            prepare_metrics()
        name = take_name()
        from worker import app as worker_app

        worker_app.check_ledger()
    except MtlError as error:
        click.echo(f"mtl worker: {error}", err=True)
        sys.exit(error.exit_code)
    embedded_in = os.environ.get("MTL_PARENT_PID")
    if embedded_in is not None:
        atexit.register(stop_abandoned_server, int(embedded_in))
    # Node names must differ: Celery warns of two workers of one name, and status shows them.
    arguments = [
        "worker",
        f"--hostname={node_name(name).partition('@')[0]}@%h",
        f"--concurrency={children}",
        "--pool=prefork",
        f"--queues={','.join(served)}",
        f"--loglevel={loglevel}",
        *("--without-gossip", "--without-mingle"),
        # Without a heartbeat Celery makes no event dispatcher, and Flower could not ask for events.
        f"--heartbeat-interval={EVENT_BEAT_S}",
    ]
    worker_app.app.worker_main(arguments)
    if reason := worker_app.failed_because():
        click.echo(f"mtl worker: {reason}", err=True)
        sys.exit(FAILED)
    if worker_app.gave_up() and not leaving.is_set():
        start_again()


def prepare_metrics() -> None:
    """Make the folder of the children's counters.

    The environment must name it before prometheus-client is imported.
    """
    # A worker that was started again in its place keeps its folder and goes on counting.
    folder = os.environ.get(METRICS_FOLDER) or tempfile.mkdtemp(prefix="mtl-metrics-")
    atexit.register(remove_in, os.getpid(), folder)
    os.environ[METRICS_FOLDER] = folder


def remove_in(pid: int, folder: str) -> None:
    """Remove a folder if this is the process that made it, and no fork of it."""
    if os.getpid() == pid:
        shutil.rmtree(folder, ignore_errors=True)


def start_again() -> None:
    """Start this worker again in a fresh process.

    Celery ends a worker on an error of Redis that it does not know, such as when Redis is full.
    Nothing is lost: the ledger knows what the worker held.
    """
    click.echo("mtl worker: the consumer gave up; starting again", err=True)
    time.sleep(RESTART_PAUSE_S)
    command = program("worker", *sys.argv[1:])
    os.execv(command[0], command)


if __name__ == "__main__":
    main()
