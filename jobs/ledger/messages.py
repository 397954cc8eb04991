"""Messages to workers: hints that a shard of a job waits, or that a job is to be finalised.

A message holds the names of job and shard and nothing else.
"""

import base64
import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, cast

import redis
from celery import Celery
from kombu.exceptions import OperationalError

from jobs.ledger import sentinel
from jobs.ledger.connection import full_line, watched_by, without_password
from jobs.ledger.lifecycle import PRIORITIES
from mtl_core.errors import LedgerUnreachableError, SettingsError

RUN_SHARD = "mtl.run_shard"
FINALISE = "mtl.finalise"
KINDS = ("label", "train")
# Kombu puts messages in on the left and takes them out on the right.
TAKE_LAST = """
return redis.call('LINDEX', KEYS[1], -1) == ARGV[1] and redis.call('RPOP', KEYS[1]) or false
"""


def queue_name(kind: str, priority: str) -> str:
    """The queue for a kind and a priority of job: ``label``, ``label.high``, ``label.low``."""
    return kind if priority == "normal" else f"{kind}.{priority}"


def queue_names(kinds: Iterable[str] = KINDS) -> list[str]:
    """All queues of these kinds, in the order in which a worker looks at them."""
    return [queue_name(kind, priority) for priority in PRIORITIES for kind in kinds]


def queues_of(wanted: str | None) -> list[str]:
    """The queues that ``mtl worker --queues`` names.

    Args:
        wanted: names separated by commas, where a kind of job stands for all of its queues; None:
            all queues.
    Raises:
        SettingsError: there is no such queue.
    """
    found: list[str] = []
    for name in (wanted or ",".join(KINDS)).split(","):
        if name not in queue_names():
            known = " ".join(queue_names())
            raise SettingsError(f"--queues {wanted}: no queue '{name}'; there are {known}")
        found += queue_names((name,)) if name in KINDS else [name]
    return found


def broker_url(redis_url: str) -> str:
    """A Redis URL as Celery spells it: a socket is ``redis+socket://``.

    Raises:
        LedgerUnreachableError: it names Sentinels, and cannot be read.
    """
    if (watched := watched_by(redis_url)) is not None:
        return sentinel.broker_url(watched)
    return redis_url.replace("unix://", "redis+socket://", 1)


def broker_options(redis_url: str, **options: Any) -> dict[str, Any]:
    """Celery's ``broker_transport_options`` for a Redis URL: these, and those that Sentinels need.

    Raises:
        LedgerUnreachableError: as :func:`broker_url`.
    """
    watched = watched_by(redis_url)
    return options if watched is None else {**options, **sentinel.broker_options(watched)}


def waiting(client: redis.Redis, queue: str, most: int = 20) -> list[tuple[str, str]]:
    """Job and shard of the messages that have waited longest in a queue, the oldest first.

    Args:
        most: look at so many messages only.
    """
    texts = reversed(cast(list[str], client.lrange(queue, -most, -1)))
    return [named for text in texts if (named := _shard_of(text)) is not None]


def next_shard(
    client: redis.Redis, queues: Iterable[str], wanted: Callable[[str, str], bool]
) -> tuple[str, str] | None:
    """Take the message that comes next, if it is about a shard, and a wanted one.

    Args:
        queues: those to look at, in this order.
        wanted: is asked with job and shard; if it says no, the message stays where it is.
    Returns:
        job and shard; None if no message waits, or another comes first.
    """
    take = client.register_script(TAKE_LAST)
    for queue in queues:
        while (text := cast(str | None, client.lindex(queue, -1))) is not None:
            named = _shard_of(text)
            if named is None or not wanted(*named):
                return None
            if take(keys=[queue], args=[text]):
                return named
    return None


def _shard_of(text: str) -> tuple[str, str] | None:
    """Job and shard of a message; None if it is not about a shard."""
    message = json.loads(text)
    arguments = json.loads(base64.b64decode(message["body"]))[0]
    if message["headers"]["task"] == RUN_SHARD and len(arguments) == 2:
        return str(arguments[0]), str(arguments[1])
    return None


class Publisher:
    """Sends Celery tasks by name, so that a submitter imports neither the worker nor torch."""

    def __init__(self, redis_url: str) -> None:
        self._url = redis_url
        # No fix-ups: the one that Celery has for Django looks for modules in the current folder.
        self._app = Celery(
            "mtl-submit", broker=broker_url(redis_url), set_as_current=False, fixups=()
        )
        self._app.conf.update(
            task_serializer="json",
            task_ignore_result=True,
            broker_transport_options=broker_options(
                redis_url, socket_timeout=10, socket_connect_timeout=5
            ),
            task_publish_retry_policy={"max_retries": 2, "interval_start": 0.2},
        )

    def shards(self, kind: str, priority: str, job: str, shards: Iterable[str]) -> None:
        """Send a message for each of these shards of a job.

        Raises:
            LedgerUnreachableError: Redis does not answer or takes no more.
        """
        with self._connected(), self._app.producer_or_acquire() as producer:
            for shard in shards:
                self._app.send_task(
                    RUN_SHARD,
                    args=(job, shard),
                    queue=queue_name(kind, priority),
                    producer=producer,
                )

    def finalise(self, kind: str, job: str) -> None:
        """Send the message that all shards of a job are settled.

        It goes to the queue of high priority, so that a worker takes it before other work.

        Raises:
            LedgerUnreachableError: Redis does not answer or takes no more.
        """
        with self._connected():
            self._app.send_task(FINALISE, args=(job,), queue=queue_name(kind, "high"))

    def close(self) -> None:
        """Close the connections."""
        self._app.close()

    @contextmanager
    def _connected(self) -> Iterator[None]:
        try:
            yield
        except (OperationalError, redis.OutOfMemoryError) as error:
            if "used memory > 'maxmemory'" in str(error):
                raise LedgerUnreachableError(full_line(self._url)) from error
            raise LedgerUnreachableError(
                f"Redis at {without_password(self._url)} took no message ({error})"
            ) from error
