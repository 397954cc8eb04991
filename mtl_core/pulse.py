"""Signs of life: long work calls a pulse every few seconds, and the pulse may end the work."""

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextvars import copy_context
from typing import Any, TypeVar

T = TypeVar("T")

Pulse = Callable[[], None]
"""A function that long work calls every few seconds; an exception it raises ends the work."""

EVERY_S = 0.5
CALL_S = 3600.0
"""A call that takes longer counts as hanging: :func:`with_pulse` no longer pulses for it."""
ROWS = 2048
"""Rows of cheap work between two pulses."""


def no_pulse() -> None:
    """A pulse that does nothing, for work that nobody watches."""


def pulsing(items: Iterable[T], pulse: Pulse, every: int = 1) -> Iterator[T]:
    """Yield the items; pulse before the first one and then before every ``every``-th."""
    for number, item in enumerate(items):
        if number % every == 0:
            pulse()
        yield item


def with_pulse(pulse: Pulse, call: Callable[..., T], *arguments: Any) -> T:
    """Make a call that cannot pulse by itself (a library's), pulsing meanwhile; return its answer.

    Only for calls that surely end. Not for reading or writing local files: a pulse would hide that
    the disk hangs.

    The call runs in a thread of its own while the calling thread pulses. If the pulse raises an
    exception, the call's thread goes on alone, so nothing may depend on what it still makes. An
    exception of the call itself is raised here.
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
