"""The folder of compiled graphs: only so many are kept, and none goes while somebody reads."""

import fcntl
import re
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

KEPT = 16
"""Graphs of models as they are, and as many in int8, that were used last."""
NAME = re.compile(r"openvino-[0-9a-f]{12}-[0-9a-f]{12}-.+?(?P<int8>-int8-[0-9a-f]{12})?")
LOCK = ".lock"


@contextmanager
def graphs_in_use(cache: Path) -> Iterator[None]:
    """While this lasts no graph is removed; any number of processes may be in it."""
    with ExitStack() as stack:
        try:
            cache.mkdir(parents=True, exist_ok=True)
            lock = stack.enter_context((cache / LOCK).open("a"))
        except OSError:  # a folder of a read-only image, from which nobody can remove anything
            pass
        else:
            fcntl.flock(lock, fcntl.LOCK_SH)
        yield


def drop_old_graphs(cache: Path, keep: int = KEPT) -> None:
    """Remove those graphs that were not used for longest, unless a process is reading one.

    Only whole folders of the names that :mod:`mtl_core.openvino_engine` gives are looked at. Who
    has read a graph does not need its folder any more.
    """
    kinds: dict[bool, list[Path]] = {True: [], False: []}
    for folder in cache.iterdir():
        found = NAME.fullmatch(folder.name)
        if found and (folder / "labels.json").is_file():
            kinds[found["int8"] is not None].append(folder)
    old = [f for folders in kinds.values() for f in sorted(folders, key=_used)[:-keep]]
    if not old:
        return
    with (cache / LOCK).open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:  # somebody is reading; the next one that loads a graph comes here, too
            return
        for folder in old:
            shutil.rmtree(folder, ignore_errors=True)


def _used(folder: Path) -> float:
    return folder.stat().st_mtime
