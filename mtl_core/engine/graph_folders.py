"""The folder of compiled graphs: only so many are kept, and none goes while somebody reads."""

import fcntl
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

KEPT = 16
"""Graphs of models as they are, and as many in int8, that were used last."""
NAME = re.compile(r"openvino-[0-9a-f]{12}-[0-9a-f]{12}-.+?(?P<int8>-int8-[0-9a-f]{12})?")
LOCK = ".lock"


@contextmanager
def graphs_in_use(cache: Path) -> Iterator[None]:
    """While this lasts no graph is removed; any number of processes may be in it."""
    with _locked(cache, fcntl.LOCK_SH):
        yield


@contextmanager
def _locked(cache: Path, how: int) -> Iterator[bool]:
    """A lock on the folder, and whether it is held: a folder of others may not be written."""
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
    """Remove those graphs that were not used for longest, unless a process is reading one.

    Only whole folders of the names that :mod:`mtl_core.engine.openvino_engine` gives are looked at.
    Who has read a graph does not need its folder any more.
    """
    kinds: dict[bool, list[Path]] = {True: [], False: []}
    for folder in cache.iterdir():
        found = NAME.fullmatch(folder.name)
        if found and (folder / "labels.json").is_file():
            kinds[found["int8"] is not None].append(folder)
    old = [f for folders in kinds.values() for f in sorted(folders, key=_used)[:-keep]]
    if not old:
        return
    # Where somebody is reading: the next one that loads a graph comes here, too.
    with _locked(cache, fcntl.LOCK_EX | fcntl.LOCK_NB) as alone:
        for folder in old if alone else ():
            shutil.rmtree(folder, ignore_errors=True)


def _used(folder: Path) -> float:
    return folder.stat().st_mtime
