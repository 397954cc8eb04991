"""Talking to Redis, and saying in one line when it does not answer."""

from collections.abc import Iterator
from contextlib import contextmanager

import redis
from redis.backoff import ExponentialBackoff
from redis.retry import Retry

from mtl_core.errors import LedgerUnreachableError

# What OpenSSL says of a certificate or of a server without TLS.
CERTIFICATE = "CERTIFICATE_VERIFY_FAILED"
NO_TLS = "WRONG_VERSION_NUMBER"
PASSING_ERRORS = (
    redis.ConnectionError,
    redis.TimeoutError,
    redis.BusyLoadingError,
    redis.OutOfMemoryError,
)


def client(url: str, patience: int) -> redis.Redis:
    """A client that connects at its first call.

    Args:
        patience: tries again this often, a second apart at most, while Redis is gone, loading or
            full.
    Raises:
        LedgerUnreachableError: that is no Redis URL.
    """
    try:
        return redis.Redis.from_url(
            url,
            decode_responses=True,
            socket_timeout=10,
            socket_connect_timeout=5,
            health_check_interval=30,
            retry=Retry(ExponentialBackoff(cap=1.0, base=0.05), patience),
            retry_on_error=list(PASSING_ERRORS),
        )
    except ValueError as error:
        raise LedgerUnreachableError(
            f"MTL_REDIS_URL is no Redis URL ({without_password(url)}); "
            "it looks like redis://host:6379/0"
        ) from error


@contextmanager
def reachable(url: str) -> Iterator[None]:
    """Turn Redis' connection errors into one line that names the address, without a password.

    Only what the client itself raises: a disk or an object store may fail in the block, too.
    """
    try:
        yield
    except redis.AuthenticationError as error:
        raise LedgerUnreachableError(
            f"Redis at {without_password(url)} refuses the password; check MTL_REDIS_URL"
        ) from error
    except redis.OutOfMemoryError as error:
        raise LedgerUnreachableError(full_line(url)) from error
    except (redis.ConnectionError, redis.TimeoutError) as error:
        if CERTIFICATE in str(error):
            raise LedgerUnreachableError(
                f"Redis at {without_password(url)} shows a certificate that is not trusted; "
                "check MTL_REDIS_CA and the host's name in MTL_REDIS_URL"
            ) from error
        if NO_TLS in str(error):
            raise LedgerUnreachableError(
                f"Redis at {without_password(url)} does not speak TLS; use redis:// or another port"
            ) from error
        raise LedgerUnreachableError(
            f"Redis at {without_password(url)} does not answer; start it, or check MTL_REDIS_URL"
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
    shown, question, options = rest.rpartition("@")[2].partition("?")
    kept = "&".join(o for o in options.split("&") if not o.startswith(("password=", "username=")))
    return f"{scheme}{separator}{shown}{question if kept else ''}{kept}"


def refused(error: BaseException | None) -> bool:
    """Whether waiting cannot help: a wrong password, certificate or URL."""
    wrong = isinstance(error, (redis.AuthenticationError, ValueError))
    return wrong or CERTIFICATE in str(error) or NO_TLS in str(error)
