"""Who this worker is: its name, its child's place, its Redis and its ledger."""

import os
import secrets
from functools import cache

from billiard import current_process

from jobs.ledger.ledger import Ledger
from jobs.settings import settings
from mtl_core.errors import SettingsError

NAME = "MTL_WORKER_NAME"
# How often a child tries again, a second apart, while Redis is gone or full. That is longer than
# any restart takes. A child that would have to wait longer loses its lease, and nothing else.
CHILD_PATIENCE = 300


def take_name() -> str:
    """Name this worker by host, process and a random word, for itself and its children to come.

    Containers can have the same host name and the same process ids. Without the random word their
    workers would have the same name, and each would take the other's children for its own.
    """
    name = os.environ.get(NAME, "")
    # A worker started again in its place (os.execv) keeps its name and watches its old children.
    if f":{os.getpid()}:" not in name:
        name = f"{os.uname().nodename}:{os.getpid()}:{secrets.token_hex(3)}"
        os.environ[NAME] = name
    return name


def worker_name() -> str:
    """This worker's name, in its parent and in its children."""
    return os.environ[NAME]


def child_place() -> int:
    """The place of this process among the worker's children, from 0."""
    return int(getattr(current_process(), "index", 0) or 0)


def redis_url() -> str:
    """The Redis of this worker.

    Raises:
        SettingsError: MTL_REDIS_URL is not set.
    """
    url = settings().redis_url
    if url is None:
        raise SettingsError("a worker needs MTL_REDIS_URL")
    return url


@cache
def ledger() -> Ledger:
    """This child's ledger; waits while Redis is away."""
    return Ledger(redis_url(), settings(), CHILD_PATIENCE)
