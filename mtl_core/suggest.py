"""What a wrong name might have meant."""

from collections.abc import Iterable
from difflib import get_close_matches


def near_hint(name: str, names: Iterable[str]) -> str:
    """What to say behind a name that is none of these: the nearest, if one is near, and all."""
    there = list(names)
    near = get_close_matches(name, there, n=1)
    hint = f"; did you mean '{near[0]}'? There are" if near else "; there are"
    return f"{hint}: {', '.join(there)}" if there else "; there are none"
