"""The folder of exported graphs: only some are kept, and none is removed while others read."""

import fcntl
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

KEPT = 16
"""How many graphs in floats are kept, and how many in int8: those that were used last."""
NAME = re.compile(r"openvino-[0-9a-f]{12}-[0-9a-f]{12}-.+?(?P<int8>-int8-[0-9a-f]{12})?")
LOCK = ".lock"


@contextmanager
def graphs_in_use(cache: Path) -> Iterator[None]:
    """Keep graphs from being removed during the context; many processes may be in it at once."""
    with _locked(cache, fcntl.LOCK_SH):
        yield


@contextmanager
def _locked(cache: Path, how: int) -> Iterator[bool]:
    """Lock the folder during the context, and yield whether the lock is held.

    It is not held if the folder is another user's and cannot be written, or if ``how`` does not
    wait and another process holds the lock.
    """
    lock = None
    try:
        cache.mkdir(parents=True, exist_ok=True)
        lock = os.open(cache / LOCK, os.O_RDONLY | os.O_CREAT, 0o644)
        fcntl.flock(lock, how)
        held = True
    except OSError:
        held = False
    try:
        yield held
    finally:
        if lock is not None:
            os.close(lock)


def drop_old_graphs(cache: Path, keep: int = KEPT) -> None:
    """Remove the graphs that have been unused for longest, unless a process is reading one.

    Only complete folders are removed, and only those with a name that
    :mod:`mtl_core.engine.openvino_engine` gives. A process that has read a graph does not need its
    folder any more.
    """
    kinds: dict[bool, list[Path]] = {True: [], False: []}
    for folder in cache.iterdir():
        found = NAME.fullmatch(folder.name)
        if found and (folder / "labels.json").is_file():
            kinds[found["int8"] is not None].append(folder)
    old = [f for folders in kinds.values() for f in sorted(folders, key=_used)[:-keep]]
    if not old:
        return
    # If a process is reading now, old graphs stay until the next process loads a graph.
    with _locked(cache, fcntl.LOCK_EX | fcntl.LOCK_NB) as alone:
        for folder in old if alone else ():
            shutil.rmtree(folder, ignore_errors=True)


def _used(folder: Path) -> float:
    try:
        return folder.stat().st_mtime
    except FileNotFoundError:  # another process has just removed it
        return 0.0
