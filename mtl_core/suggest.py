"""Suggest which known name a wrong name was meant to be."""

from collections.abc import Iterable
from difflib import get_close_matches

ALIKE = 0.6
"""How similar a name must be to be suggested, from 0 to 1; 1: only an equal name is."""


def nearest(name: str, names: Iterable[str], cutoff: float = ALIKE) -> str | None:
    """The most similar of some names; None if no name is similar enough."""
    return next(iter(get_close_matches(name, list(names), n=1, cutoff=cutoff)), None)


def did_you_mean(
    name: str, names: Iterable[str], *, before: str = "", behind: str = "", otherwise: str = ""
) -> str:
    """The question whether the nearest name was meant.

    Args:
        before, behind: text put directly before and behind the question.
        otherwise: what to return instead if no name is near.
    """
    near = nearest(name, names)
    return otherwise if near is None else f"{before}did you mean '{near}'?{behind}"


def near_hint(name: str, names: Iterable[str]) -> str:
    """The end of a message about an unknown name: the nearest name, if any, and a list of all."""
    there = list(names)
    if not there:
        return "; there are none"
    hint = did_you_mean(name, there, before="; ", behind=" There are", otherwise="; there are")
    return f"{hint}: {', '.join(there)}"
