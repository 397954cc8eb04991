"""Signs of life: what works for long calls a pulse every few seconds, and lets it end the work."""

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextvars import copy_context
from typing import Any, TypeVar

T = TypeVar("T")

Pulse = Callable[[], None]
"""Called wherever work goes on, seconds apart at most; an exception it raises ends the work."""

EVERY_S = 0.5
CALL_S = 3600.0
"""A call that takes longer hangs: nobody pulses for it any more."""
ROWS = 2048
"""Rows of cheap work between two pulses."""


def no_pulse() -> None:
    """Nobody listens."""


def pulsing(items: Iterable[T], pulse: Pulse, every: int = 1) -> Iterator[T]:
    """The items, with a pulse before every so-manieth."""
    for number, item in enumerate(items):
        if number % every == 0:
            pulse()
        yield item


def with_pulse(pulse: Pulse, call: Callable[..., T], *arguments: Any) -> T:
    """The answer of a call that cannot pulse by itself (a library's), which has an end.

    Not for reading and writing of local files: a disk that hangs must be seen to.

    The call runs in a thread, this one pulses. Where the pulse ends the work, the call is left to
    itself: what it makes must count for nothing.
    """
    if pulse is no_pulse:
        return call(*arguments)
    answer: list[T] = []
    failure: list[BaseException] = []

    def run() -> None:
        try:
            answer.append(context.run(call, *arguments))
        except BaseException as error:
            failure.append(error)

    context = copy_context()
    thread = threading.Thread(target=run, name="with-pulse", daemon=True)
    thread.start()
    hung_from = time.monotonic() + CALL_S
    while thread.is_alive():
        if time.monotonic() < hung_from:
            pulse()
        thread.join(EVERY_S)
    if failure:
        raise failure[0]
    return answer[0]
