"""Signs of life: what works for long calls a pulse every few seconds, and lets it end the work."""

import threading
from collections.abc import Callable, Iterable, Iterator
from contextvars import copy_context
from typing import Any, TypeVar

T = TypeVar("T")

Pulse = Callable[[], None]
"""Called wherever work goes on, seconds apart at most; an exception it raises ends the work."""

EVERY_S = 0.5
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
    while thread.is_alive():
        pulse()
        thread.join(EVERY_S)
    if failure:
        raise failure[0]
    return answer[0]
