"""Talking to Redis, and saying in one line when it does not answer."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import redis
from redis.backoff import ExponentialBackoff
from redis.retry import Retry
from redis.sentinel import MasterNotFoundError

from jobs.ledger import sentinel
from mtl_core.errors import LedgerUnreachableError

SECRET = ("username", "password", *sentinel.OWN)
"""Options of a URL that are not shown."""
PASSING_ERRORS = (
    redis.ConnectionError,
    redis.TimeoutError,
    redis.BusyLoadingError,
    redis.OutOfMemoryError,
)


def client(url: str, patience: int, timeout_s: float = 10.0) -> redis.Redis:
    """Make a client that connects at its first call; by Sentinels, to whichever is the primary.

    Args:
        patience: how often a call is tried again while Redis is gone, loading or full; the tries
            are a second apart at most.
        timeout_s: how long an answer may take.
    Raises:
        LedgerUnreachableError: ``url`` is no Redis URL.
    """
    options: dict[str, Any] = {
        "decode_responses": True,
        "socket_timeout": timeout_s,
        "socket_connect_timeout": min(5.0, timeout_s),
        "health_check_interval": 30,
        "retry": Retry(ExponentialBackoff(cap=1.0, base=0.05), patience),
        "retry_on_error": list(PASSING_ERRORS),
    }
    if (watched := watched_by(url)) is not None:
        return sentinel.client(watched, **options)
    try:
        return redis.Redis.from_url(url, **options)
    except ValueError as error:
        raise LedgerUnreachableError(
            f"MTL_REDIS_URL is no Redis URL ({without_password(url)}); "
            "it looks like redis://host:6379/0"
        ) from error


def watched_by(url: str) -> sentinel.Watched | None:
    """The Sentinels that an address names; None if it is that of a single Redis.

    Raises:
        LedgerUnreachableError: it names Sentinels, and cannot be read.
    """
    if not sentinel.is_watched(url):
        return None
    try:
        return sentinel.parse(url)
    except ValueError as error:
        raise LedgerUnreachableError(
            f"MTL_REDIS_URL cannot be read: {error}; it looks like {sentinel.LIKE}"
        ) from error


@contextmanager
def reachable(url: str) -> Iterator[None]:
    """Turn Redis' connection errors into one line that names the address, without a password.

    Only errors of the Redis client are turned. Others pass unchanged, since a disk or an object
    store may fail in the same block.

    Raises:
        LedgerUnreachableError: Redis does not answer, is full, or refuses the password or TLS.
    """
    try:
        yield
    except redis.AuthenticationError as error:
        raise LedgerUnreachableError(
            f"Redis at {without_password(url)} refuses the password; check MTL_REDIS_URL"
        ) from error
    except redis.OutOfMemoryError as error:
        raise LedgerUnreachableError(full_line(url)) from error
    except MasterNotFoundError as error:
        why, passes = sentinel.trouble(sentinel.parse(url), without_password(url))
        raise LedgerUnreachableError(why) from (error if passes else sentinel.UnknownError(why))
    except sentinel.NoReplicasError as error:
        raise LedgerUnreachableError(
            f"Redis at {without_password(url)} takes no writes while fewer replicas follow it than "
            "its min-replicas-to-write; start one"
        ) from error
    except (redis.ConnectionError, redis.TimeoutError) as error:
        if sentinel.CERTIFICATE in str(error):
            raise LedgerUnreachableError(
                f"Redis at {without_password(url)} shows a certificate that is not trusted; "
                "check MTL_REDIS_CA and the host's name in MTL_REDIS_URL"
            ) from error
        if sentinel.NO_TLS in str(error):
            raise LedgerUnreachableError(
                f"Redis at {without_password(url)} does not speak TLS; use redis:// or another port"
            ) from error
        raise LedgerUnreachableError(
            f"Redis at {without_password(url)} does not answer; start it, or check MTL_REDIS_URL"
        ) from error


def full_line(url: str) -> str:
    """The message for a Redis whose memory is full."""
    return (
        f"Redis at {without_password(url)} is full; free memory, or raise its maxmemory, "
        "then repeat the command"
    )


def without_password(url: str) -> str:
    """A Redis URL without user names and passwords, so that it can be shown."""
    scheme, separator, rest = url.partition("://")
    hidden, _, plain = rest.rpartition("@")
    if any(name in hidden.partition("?")[2] for name in SECRET):
        return f"{scheme}{separator}…"  # a password in the options holds an @
    shown, question, options = plain.partition("?")
    kept = "&".join(o for o in options.split("&") if o.partition("=")[0] not in SECRET)
    return f"{scheme}{separator}{shown}{question if kept else ''}{kept}"


def refused(error: BaseException | None) -> bool:
    """Whether waiting for Redis cannot help, because the password, certificate or URL is wrong."""
    wrong = isinstance(error, (redis.AuthenticationError, sentinel.UnknownError, ValueError))
    return wrong or sentinel.CERTIFICATE in str(error) or sentinel.NO_TLS in str(error)
