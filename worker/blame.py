"""Whose fault an attempt's error is: that decides what becomes of the shard and of its job."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path

import redis

from jobs.specs import AnySpec, LabelSpec, TrainSpec
from mtl_core.errors import MtlError, OutputError, SettingsError, StoreError
from mtl_core.storage.address import is_address

# Errors of a disk that no other attempt mends, but somebody can.
DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM)


class Blame(StrEnum):
    """Whose fault an error is."""

    ROWS = "rows"
    """Perhaps the shard's: a failed attempt, whose shard is split in the end."""
    OUTPUT = "output"
    """The place that all workers of the job write to: the job is paused."""
    WORKER = "worker"
    """This worker's: it declines the job, others go on."""
    SPEC = "spec"
    """What the job asks for: no worker could do it, and it fails."""
    LEDGER = "ledger"
    """Nobody's: Redis was away for long. The shard is given back."""


@contextmanager
def own_trouble(what: str) -> Iterator[None]:
    """Say of an error of the system that it is this worker's own: it read or wrote its own files.

    Raises:
        SettingsError: instead of an OSError, an object store's aside.
    """
    try:
        yield
    except StoreError:
        raise
    except OSError as error:
        at = f": {error.filename}" if error.filename else ""
        reason = error.strerror or str(error)
        raise SettingsError(
            f"{what} of the worker on {os.uname().nodename} cannot be used ({reason}{at}); make "
            "room or mend permissions there, and start that worker again"
        ) from error


def blame(error: Exception, spec: AnySpec) -> Blame:
    """Whose fault an attempt's error is."""
    # Their order decides: a StoreError is an OSError and an MtlError, too.
    if isinstance(error, redis.RedisError):
        return Blame.LEDGER
    if isinstance(error, StoreError):
        return Blame.OUTPUT
    # Of a label job: what its workers share has gone, or is not to be seen from this one alone.
    if isinstance(error, OutputError) and isinstance(spec, TrainSpec):
        return Blame.SPEC
    if isinstance(error, (MtlError, ImportError)):  # the latter: not installed whole
        return Blame.WORKER
    if isinstance(error, OSError) and error.errno in DISK_ERRORS:
        return Blame.OUTPUT if _at_output(error, spec) else Blame.WORKER
    return Blame.ROWS


def _at_output(error: OSError, spec: AnySpec) -> bool:
    """Whether the disk that refused is the output's; where no file is named, as far as known."""
    if is_address(spec.output):
        return False  # a store's own errors are StoreErrors: this was a file of this machine
    if not error.filename:
        return True
    # A model is built beside where it will lie.
    output = Path(spec.output) if isinstance(spec, LabelSpec) else Path(spec.output).parent
    return Path(os.fsdecode(error.filename)).absolute().is_relative_to(output)
