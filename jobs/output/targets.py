"""Checks of the places that a user names to be written: files, pages and folders.

A file is replaced only if the user names it and says ``--overwrite``; a page that says of itself
that it is one of ours needs no ``--overwrite``. In a folder, only the files that the folder's list
(:mod:`jobs.output.folders`) names are replaced. Nothing else is ever replaced or removed.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa

from jobs import interrupt
from jobs.output.layout import MANIFEST, OWNER
from mtl_core.errors import OutputError, StoreError

GENERATOR = b'<meta name="generator" content="mtl-batch">'
"""Stands in the head of every page written here. It tells our pages from other files."""
HEAD_BYTES = 2000


def check_file_target(target: Path, *, overwrite: bool) -> None:
    """Refuse a file that is there already, unless it may be replaced.

    Raises:
        OutputError: it is a folder, no plain file, lies in a job's output, or exists and may not
            be replaced.
    """
    check_outside_outputs(target)
    if target.is_dir():
        raise OutputError(f"{target} is a folder; give a file by -o")
    if target.exists() and not target.is_file():
        raise OutputError(f"{target} is a device or a pipe, no file; give a file by -o")
    if target.exists() and not overwrite:
        raise OutputError(f"{target} exists; add --overwrite to replace it, or give another name")


def check_page_target(target: Path, *, overwrite: bool) -> None:
    """Refuse to replace a file that is no page of ours, unless told to.

    Raises:
        OutputError: as :func:`check_file_target`.
    """
    check_file_target(target, overwrite=overwrite or _is_page(target))


def _is_page(target: Path) -> bool:
    if not target.is_file():
        return False
    try:
        with target.open("rb") as stream:
            return GENERATOR in stream.read(HEAD_BYTES)
    except OSError:
        return False


def check_outside_outputs(target: Path) -> None:
    """Refuse a target within a job's output, where readers of the output would meet it.

    Raises:
        OutputError: the target, or a folder above it, is the output of a job.
    """
    for folder in (target.absolute(), *target.absolute().resolve().parents):
        if (folder / MANIFEST).is_file() or (folder / OWNER).is_file():
            raise OutputError(
                f"{target} lies in {folder}, a job's output, which readers open as one data set; "
                "give a place outside it by -o"
            )


@contextmanager
def in_one_line(target: Path) -> Iterator[None]:
    """Turn errors of the disk or the format into one line that names the target.

    Raises:
        OutputError: the target cannot be written.
    """
    try:
        with interrupt.unwinding():  # so that Ctrl-C leaves no half-written file behind
            yield
    except StoreError:
        raise
    except (OSError, pa.ArrowException) as error:
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise OutputError(
            f"{target} cannot be written ({reason}); give another place by -o, or mend that"
        ) from error
