"""Users' texts, and tables of them, on the screen.

A text is never taken for markup. Its control characters are shown, and not sent to the terminal.
"""

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

# Characters that move the cursor, set colours, ring, or turn the direction of writing.
CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


def plain(text: object) -> str:
    """A text in one line; what would steer a terminal is written out, as ``\\n`` and ``\\x1b``."""
    return CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), str(text))


SHOWN_CHARACTERS = 200


def shortened(text: str) -> str:
    """The beginning of a text that is too long to be shown among others."""
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}…"


def cell(text: object, style: str = "") -> "Text":
    """The text for a cell of a table, in which rich looks for no markup."""
    from rich.text import Text

    return Text(plain(text), style)


def print_table(table: "Table", width: int = 200) -> None:
    """Print a table as wide as the terminal.

    Args:
        width: in characters, where there is no terminal; rich would fold the table to 80 there.
    """
    from rich.console import Console

    console = Console()
    console.print(table) if console.is_terminal else Console(width=width).print(table)


def count(number: int, noun: str) -> str:
    """A number with its noun."""
    return f"{number:,} {noun}{'s' * (number != 1)}"
