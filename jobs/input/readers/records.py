"""Lines of csv and tsv as records; a quote that is used wrongly costs its own line and no other."""

import csv
import re
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from jobs.specs import Quotes

# A longer field is an error. The limit also bounds what a quote that never closes can take in.
csv.field_size_limit(1 << 26)
ESCAPED_QUOTE = re.compile(r'(?<!\\)((?:\\\\)*)\\"')


@dataclass(frozen=True)
class Record:
    """The fields of one record, or why its line is no record."""

    line: int
    """The line where the record begins, from 1."""
    fields: list[str]
    problem: str = ""
    lines: int = 1
    """How many lines the record spans."""


class Lines:
    """Counts lines as they are taken; lines can be given back."""

    def __init__(self, lines: Iterable[str]) -> None:
        self._lines, self._back = iter(lines), deque[str]()
        self.taken = 0

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self._back.popleft() if self._back else next(self._lines)
        self.taken += 1
        return line

    def give_back(self, lines: list[str]) -> None:
        """Let these be the next lines."""
        self._back.extendleft(reversed(lines))
        self.taken -= len(lines)


def records(
    lines: Iterable[str], delimiter: str, quotes: Quotes, width: int = 0
) -> Iterator[Record]:
    """Cut lines into records; a blank line is no record.

    A field in quotes may hold delimiters and go on over lines, but its closing quote must be
    followed by a delimiter or the line's end. Where it is not, only the line that opened it is set
    aside and the next ones are read anew, so that no line is swallowed.

    Args:
        lines: each with its end.
        quotes: ``none``: a line is a record, and quotes are text.
        width: how many fields a record should have; 0: not known. A line with a stray quote is
            taken as it stands if it has so many fields.
    """
    source = Lines(lines)
    for line in source:
        bare = line.rstrip("\r\n")
        if not bare:
            continue
        if quotes == "none" or '"' not in line:
            yield Record(source.taken, bare.split(delimiter))
        else:
            yield _quoted(line, source, delimiter, quotes, width)


def _quoted(first: str, source: Lines, delimiter: str, quotes: Quotes, width: int) -> Record:
    number, taken = source.taken, list[str]()

    def feed() -> Iterator[str]:
        line = first
        while True:
            yield ESCAPED_QUOTE.sub(r'\1""', line) if quotes == "backslash" else line
            if (following := next(source, None)) is None:
                return
            line = following
            taken.append(line)

    try:
        fields = next(csv.reader(feed(), delimiter=delimiter, strict=True))
        return Record(number, fields, lines=1 + len(taken))
    except csv.Error:
        source.give_back(taken)
    bare = first.rstrip("\r\n")
    fields = bare.split(delimiter)
    if not taken and len(fields) == width and '\\"' not in bare:
        return Record(number, fields)  # `"Good" film,1`: quotes that are text
    problem = "a quote is opened and not closed before the next delimiter"
    return Record(number, [bare], problem)
