"""What a wrong name might have meant."""

from collections.abc import Iterable
from difflib import get_close_matches

ALIKE = 0.6
"""How alike two names are that may have been meant for each other; 1: they are equal."""


def nearest(name: str, names: Iterable[str], cutoff: float = ALIKE) -> str | None:
    """The name that is most like this one; None: none is much like it."""
    return next(iter(get_close_matches(name, list(names), n=1, cutoff=cutoff)), None)


def did_you_mean(
    name: str, names: Iterable[str], *, before: str = "", behind: str = "", otherwise: str = ""
) -> str:
    """The question whether the nearest name was meant, between what is given.

    Args:
        otherwise: what to say where no name is near.
    """
    near = nearest(name, names)
    return otherwise if near is None else f"{before}did you mean '{near}'?{behind}"


def near_hint(name: str, names: Iterable[str]) -> str:
    """What to say behind a name that is none of these: the nearest, if one is near, and all."""
    there = list(names)
    if not there:
        return "; there are none"
    hint = did_you_mean(name, there, before="; ", behind=" There are", otherwise="; there are")
    return f"{hint}: {', '.join(there)}"
