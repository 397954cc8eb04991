"""Through which rooms a call goes: counted while it runs.

A room is a sub-package (``mtl_core.engine``, ``jobs.label``), or ``worker`` for the modules right
in it. Not counted are the modules beside the rooms, which are tools (errors, settings, pulse), and
what only tells of the work (beats, the ledger, progress).

A *stay* is a run of calls into one room with no call into another room between. The same call
again, as in a loop, is not counted again, nor is the making of a value. A *climb* is a stay in a
room that stands above the one before in the order of imports, a *return* a stay in a room that was
left before.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from types import CodeType, FrameType
from typing import Any

ORDER = (
    *("worker", "worker.process"),
    *("jobs.label", "jobs.train", "jobs.input", "jobs.output", "jobs.roots"),
    *("mtl_core.training", "mtl_core.evaluation", "mtl_core.data", "mtl_core.engine"),
    *("mtl_core.model", "mtl_core.storage"),
)
"""From the top down."""


@dataclass(frozen=True)
class Way:
    """The stays of a call, in order, each with the first call that began it."""

    stays: tuple[str, ...]
    calls: tuple[str, ...]

    @property
    def climbs(self) -> int:
        """Stays in a room above the one before."""
        places = [ORDER.index(room) for room in self.stays]
        return sum(after < before for before, after in pairwise(places))

    @property
    def returns(self) -> int:
        """Stays in a room that was left before."""
        return len(self.stays) - len(set(self.stays))

    def __str__(self) -> str:
        rows = [f"{room:20} {call}" for room, call in zip(self.stays, self.calls, strict=True)]
        counts = f"{len(self.stays)} stays, {len(set(self.stays))} rooms"
        return "\n".join([*rows, f"{counts}, {self.climbs} climbs, {self.returns} returns"])


def room_of(module: str) -> str:
    """The room of a module; empty for a tool, and for what is none of this project's."""
    name, _, rest = module.partition(".")
    if name == "worker" and "." not in rest:
        return "worker"
    room = ".".join(module.split(".")[:2])
    return room if room in ORDER and (module != room or room == "jobs.roots") else ""


def way_of(call: Callable[[], Any], room_of: Callable[[str], str] = room_of) -> Way:
    """Make a call and count."""
    seen: set[tuple[CodeType, CodeType]] = set()
    stays, calls = ["worker"], [""]

    def room(frame: FrameType) -> str:
        # A dataclass' own methods are of no file.
        aside = frame.f_code.co_name == "<module>" or frame.f_code.co_filename == "<string>"
        return "" if aside else room_of(str(frame.f_globals.get("__name__")))

    def note(frame: FrameType, event: str, _: Any) -> None:
        here = room(frame) if event == "call" else ""
        caller = frame.f_back
        while here and caller is not None and not room(caller):
            caller = caller.f_back
        if not here or caller is None or (caller.f_code, frame.f_code) in seen:
            return
        seen.add((caller.f_code, frame.f_code))
        told = here == "worker" != room(caller)  # by a callback: progress
        if not told and room(caller) != here != stays[-1]:
            stays.append(here)
            calls.append(f"{caller.f_code.co_qualname} -> {frame.f_code.co_qualname}")

    sys.setprofile(note)
    try:
        call()
    finally:
        sys.setprofile(None)
    return Way(tuple(stays), tuple(calls))
