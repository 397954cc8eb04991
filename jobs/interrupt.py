"""Ctrl-C from the first moment on: one line, exit code 130, and what was begun is undone.

Where nothing would be left behind, the process ends at once: an exception in the midst of an import
is swallowed or turned into another by some libraries. Within :func:`unwinding` there is something
to undo, so Ctrl-C is a KeyboardInterrupt; and since that, too, may be swallowed, it is remembered:
:func:`check` raises it again where a job is waited for, and the exit code is 130 in any case.
Between :func:`hold` and :func:`release` it waits, as long as something is half started or half
stopped.

Imported before all else, so it imports next to nothing.
"""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import NoReturn

EXIT_CODE = 130
LINE = "mtl: stopped\n"


@dataclass
class _State:
    came: bool = False
    said: bool = False
    unwinding: int = 0
    held: int = 0


_state = _State()


def install() -> None:
    """Take over Ctrl-C, unless it is ignored, as in a shell's background jobs."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _on_interrupt)


def _on_interrupt(number: int, frame: FrameType | None) -> None:
    _state.came = True
    if _state.held:
        return
    if _state.unwinding:
        raise KeyboardInterrupt
    _say()
    os._exit(EXIT_CODE)


def _say() -> None:
    if not _state.said:
        _state.said = True
        # Not by sys.stderr, which may be in the midst of a write.
        os.write(2, LINE.encode())


@contextmanager
def unwinding() -> Iterator[None]:
    """While something must be undone: Ctrl-C is a KeyboardInterrupt."""
    _state.unwinding += 1
    try:
        yield
        check()
    finally:
        _state.unwinding -= 1


def hold() -> None:
    """Let Ctrl-C wait until :func:`release`."""
    _state.held += 1


def release() -> None:
    """End :func:`hold`; a Ctrl-C that came meanwhile is raised now."""
    _state.held -= 1
    if not _state.held:
        check()


def check() -> None:
    """Raise KeyboardInterrupt if Ctrl-C came, though it may have been swallowed."""
    if _state.came:
        raise KeyboardInterrupt


def came() -> bool:
    """Whether Ctrl-C came: whatever happens then is no error of its own."""
    return _state.came


def explained() -> None:
    """What Ctrl-C did has been said already, better than in the usual line."""
    _state.said = True


def leave() -> NoReturn:
    """End the program as Ctrl-C ends one."""
    _state.came = True
    _say()
    sys.exit(EXIT_CODE)
