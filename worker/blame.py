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

# Errors of a disk that another attempt does not mend, but a person can.
DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM)


class Blame(StrEnum):
    """Whose fault an error is."""

    ROWS = "rows"
    """Perhaps that of the shard's rows: the attempt fails, and the shard is split in the end."""
    OUTPUT = "output"
    """That of the place that all workers of the job write to: the job is paused."""
    WORKER = "worker"
    """This worker's: it declines the job, and others go on with it."""
    SPEC = "spec"
    """That of what the job asks for: no worker could do it, and the job fails."""
    LEDGER = "ledger"
    """Nobody's: Redis was away for long. The shard is given back."""


@contextmanager
def own_trouble(what: str) -> Iterator[None]:
    """Turn an OSError into one that is this worker's fault; for reading or writing its own files.

    Args:
        what: name of these files, for the message.
    Raises:
        SettingsError: in place of any OSError but a StoreError, which is raised unchanged.
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
    # The order of the checks matters: a StoreError is an OSError and an MtlError, too.
    if isinstance(error, redis.RedisError):
        return Blame.LEDGER
    if isinstance(error, StoreError):
        return Blame.OUTPUT
    # Not in a label job: there the shared output may be out of sight of this worker alone, so that
    # an OutputError is the worker's fault, like any other MtlError.
    if isinstance(error, OutputError) and isinstance(spec, TrainSpec):
        return Blame.SPEC
    if isinstance(error, (MtlError, ImportError)):  # the latter: not installed whole
        return Blame.WORKER
    if isinstance(error, OSError) and error.errno in DISK_ERRORS:
        return Blame.OUTPUT if _at_output(error, spec) else Blame.WORKER
    return Blame.ROWS


def _at_output(error: OSError, spec: AnySpec) -> bool:
    """Whether the disk that refused is the output's; assumed if the error names no file."""
    if is_address(spec.output):
        return False  # a store's own errors are StoreErrors: this was a file of this machine
    if not error.filename:
        return True
    # A model is built in a folder beside its final one.
    output = Path(spec.output) if isinstance(spec, LabelSpec) else Path(spec.output).parent
    return Path(os.fsdecode(error.filename)).absolute().is_relative_to(output)
