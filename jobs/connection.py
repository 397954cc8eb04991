"""Talking to Redis, and saying in one line when it does not answer."""

from collections.abc import Iterator
from contextlib import contextmanager

import redis

from mtl_core.errors import LedgerUnreachableError


@contextmanager
def reachable(url: str) -> Iterator[None]:
    """Turn Redis' connection errors into one line that names the address, without a password."""
    try:
        yield
    except redis.AuthenticationError as error:
        raise LedgerUnreachableError(
            f"Redis at {without_password(url)} refuses the password; check MTL_REDIS_URL"
        ) from error
    except redis.OutOfMemoryError as error:
        raise LedgerUnreachableError(full_line(url)) from error
    except (redis.ConnectionError, redis.TimeoutError, OSError) as error:
        raise LedgerUnreachableError(
            f"Redis at {without_password(url)} does not answer; start it, or check MTL_REDIS_URL"
        ) from error
    except ValueError as error:
        raise LedgerUnreachableError(
            f"MTL_REDIS_URL is no Redis URL ({without_password(url)}); "
            "it looks like redis://host:6379/0"
        ) from error


def full_line(url: str) -> str:
    """What is said of a Redis without room."""
    return (
        f"Redis at {without_password(url)} is full; free memory, or raise its maxmemory, "
        "then repeat the command"
    )


def without_password(url: str) -> str:
    """A Redis URL fit to be shown."""
    scheme, separator, rest = url.partition("://")
    return f"{scheme}{separator}{rest.rpartition('@')[2]}"
