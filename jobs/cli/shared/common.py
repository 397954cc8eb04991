"""What several commands need: a connection, embedded parts, JSON on the screen."""

import json
import re
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any

import click

from jobs import interrupt
from jobs.cli.shared import complete
from jobs.ledger.connection import reachable
from jobs.ledger.ledger import Ledger
from jobs.ledger.lifecycle import PRIORITIES, JobState
from jobs.output.layout import MANIFEST
from jobs.settings import Settings, settings
from jobs.specs import LabelSpec
from mtl_core.errors import JobError, SettingsError
from mtl_core.storage.address import place_of
from mtl_core.storage.folder import Folder
from mtl_core.storage.place import Place

JOB_ID = re.compile(r"(label|train)-[0-9a-z]+")

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for scripts.")
quiet_option = click.option("-q", "--quiet", is_flag=True, help="Print results and errors only.")
detach_option = click.option(
    "--detach", is_flag=True, help="Queue the job, print its id, and return."
)
finished_argument = click.argument(
    "job", metavar="JOB|OUT", shell_complete=complete.jobs_or_folders
)
"""A label job by its id or by its output."""
where_option = click.option(
    "--where",
    metavar="CONDITION",
    help="Only these rows, as \"topic = 'Sports' and topic_score < 0.7\".",
)
generation_option = click.option(
    "--generation",
    type=click.IntRange(1),
    metavar="N",
    help="Of an output that was appended to: this generation alone.  [default: all]",
)
overwrite_page_option = click.option(
    "--overwrite",
    is_flag=True,
    help="Replace the file also where it is no page of `mtl`, which is replaced without asking.",
)


def output_option(
    metavar: str, help: str, *, required: bool = True
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """The option ``-o``, by which a command is told where to write."""
    return click.option(
        *("-o", "--output"),
        required=required,
        metavar=metavar,
        help=help,
        shell_complete=complete.files,
    )


priority_option = click.option(
    "--priority",
    type=click.Choice(PRIORITIES),
    default="normal",
    show_default=True,
    help="Jobs of a higher priority are served first.",
)


def print_json(value: Any) -> None:
    """Print a value as one JSON document on standard output."""
    click.echo(json.dumps(value, ensure_ascii=False))


@dataclass
class Backend:
    """A ledger to talk to, and whether this command runs its own worker."""

    ledger: Ledger
    embedded: bool
    keep_running: Callable[[], None] = lambda: None
    """Call now and then: restarts an embedded worker that died."""


@contextmanager
def backend(*, worker: bool) -> Iterator[Backend]:
    """Connect to the Redis of MTL_REDIS_URL, or start an embedded one where that is unset.

    Whatever was started is stopped at the end, on errors, on Ctrl-C and on SIGTERM.

    Args:
        worker: beside an embedded Redis, start an embedded worker, too.

    Raises:
        LedgerUnreachableError: Redis does not answer or cannot be started.
    """
    config = settings()
    if config.redis_url is not None:
        with interrupt.unwinding():
            yield Backend(connect(config.redis_url, config), embedded=False)
        return
    from jobs.embedded import EmbeddedRedis, EmbeddedWorker

    with interrupt.unwinding(), _sigterm_is_an_exit(), ExitStack() as stack:
        # Ctrl-C waits while a process is started or stopped; else the process would be left behind.
        stack.callback(interrupt.release)
        interrupt.hold()
        server = stack.enter_context(EmbeddedRedis(config.state_dir))
        here = Backend(connect(server.url, config), embedded=True)
        if worker:
            own = stack.enter_context(EmbeddedWorker(here.ledger, config.state_dir))
            here.keep_running = own.keep_running
        stack.callback(interrupt.hold)
        interrupt.release()
        yield here


def connect(url: str, config: Settings) -> Ledger:
    """A ledger whose Redis has answered."""
    with reachable(url):
        ledger = Ledger(url, config)
        ledger.ping()
    return ledger


@contextmanager
def _sigterm_is_an_exit() -> Iterator[None]:
    def leave(number: int, frame: FrameType | None) -> None:
        sys.exit(128 + number)

    before = {number: signal.signal(number, leave) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def require_redis_for_detach() -> None:
    """Raise SettingsError unless there is a Redis that outlives this command."""
    if settings().redis_url is None:
        raise SettingsError(
            "--detach needs a Redis and workers that outlive this command; set MTL_REDIS_URL "
            "(and run `mtl worker`), or leave --detach out"
        )


def output_folder(job: str) -> Place:
    """The output of a finished label job.

    Args:
        job: the job's id, or its output as a path or an address.

    Raises:
        JobError: no such job, or it has not finished.
    """
    place = place_of(job)
    if place.has(MANIFEST):
        return place
    if not isinstance(place, Folder) or place.path.is_dir():
        raise JobError(f"{place} holds no finished output ({MANIFEST} is missing)")
    if not JOB_ID.fullmatch(job):
        raise JobError(f"{place}: no such folder, and no job's id")
    with backend(worker=False) as where:
        spec = where.ledger.spec(job)
        state = where.ledger.state(job)
    if not isinstance(spec, LabelSpec):
        raise JobError(f"{job} is a train job; its model is {spec.output}")
    if state not in (JobState.DONE, JobState.PARTIAL):
        raise JobError(f"{job} is {state}; wait until it is done")
    return place_of(spec.target)
