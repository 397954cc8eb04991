"""Checking that a worker still takes messages, not only that its process lives."""

import os

import redis
from celery import Celery

from jobs.ledger.messages import broker_options, broker_url
from jobs.ledger.presence import Presence, host_of, node_name
from mtl_core.errors import JobError

PING_TIMEOUT_S = 5.0


def check_workers_here(client: redis.Redis, redis_url: str) -> list[str]:
    """Ask every worker announced on this machine to answer, and raise if one does not.

    The answer comes from the loop that takes messages, so a worker that answers still consumes. A
    worker is announced by its reconciler, so one whose reconciler has died is not asked. A worker
    that is busy with a long shard answers, too.

    Returns:
        the workers that answered.
    Raises:
        JobError: none is announced on this machine, or one does not answer.
    """
    host = os.uname().nodename
    names = [name for name in Presence(client).workers() if host_of(name) == host]
    if not names:
        raise JobError(f"no worker is announced on {host}")
    nodes = {node_name(name): name for name in names}
    broker = broker_url(redis_url)
    with Celery("mtl-check", broker=broker, set_as_current=False, fixups=()) as app:
        app.conf.broker_transport_options = broker_options(redis_url)
        replies = app.control.ping(destination=list(nodes), timeout=PING_TIMEOUT_S)
    answered = {node for reply in replies for node in reply}
    silent = [name for node, name in nodes.items() if node not in answered]
    if silent:
        raise JobError(f"no answer within {PING_TIMEOUT_S:g} s from {', '.join(silent)}")
    return names
