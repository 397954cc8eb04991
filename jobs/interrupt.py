"""Ctrl-C from the first moment on: one line, exit code 130, and what was begun is undone.

Where nothing would be left behind, Ctrl-C ends the process at once. An exception would not do: in
the midst of an import, some libraries swallow it or turn it into another.

Within :func:`unwinding` there is something to undo, so Ctrl-C raises KeyboardInterrupt. That, too,
may be swallowed, so it is remembered: :func:`check` raises it again where a job is waited for, and
the exit code is 130 in any case.

Between :func:`hold` and :func:`release` something is half started or half stopped, so Ctrl-C waits.

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
    """Let Ctrl-C raise KeyboardInterrupt in the block, so that what it began is undone."""
    _state.unwinding += 1
    try:
        yield
        check()
    finally:
        _state.unwinding -= 1


def hold() -> None:
    """Let Ctrl-C wait until :func:`release` is called as often as this was."""
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
    """Whether Ctrl-C came; an error that is raised after it is taken for its consequence."""
    return _state.came


def explained() -> None:
    """Note that the user has been told what Ctrl-C did, so that the usual line is left out."""
    _state.said = True


def leave() -> NoReturn:
    """End the program as after Ctrl-C, with its line and its exit code."""
    _state.came = True
    _say()
    sys.exit(EXIT_CODE)
