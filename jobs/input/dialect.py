"""How a csv or tsv file is written: delimiter, quotes, header; found from its beginning."""

import io
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice

from jobs.input.readers.records import Record, records
from jobs.specs import Quotes

DELIMITERS = ",;\t|"
SEPARATOR_LINE = re.compile(r'"?sep=(.)"?')
"""What Excel writes above the header to say how columns are separated."""
NUMBER = re.compile(r"[-+]?\d+([.,:/-]\d+)*([eE][-+]?\d+)?%?")
USUAL_NAMES = (
    *("id", "text", "sentence", "label", "title", "body", "name", "date", "review", "comment"),
    *("content", "message", "score", "rating", "category", "topic", "sentiment", "stars", "url"),
    *("author", "time", "timestamp", "index", "summary", "description"),
)
SENTENCE_WORDS, TELLING_WORDS = 5, 3
MOST_ROWS = 1000


@dataclass(frozen=True)
class Dialect:
    """How rows of a file are cut into columns."""

    delimiter: str
    quotes: Quotes = "double"
    skip: int = 0
    """Lines above the header that are no rows."""
    header: bool = True
    doubt: str = ""
    """Why the file's first line may be no header after all; empty where there is no doubt."""


def dialect_of(
    text: str, *, tabs: bool, whole: bool, header: bool | None, named: Sequence[str]
) -> Dialect:
    """The dialect of a file from its beginning.

    Args:
        text: its lines end in \\n or \\r\\n.
        tabs: the file is a tsv: tabs separate its fields, and each line is a row unless the file
            clearly uses quotes as a csv does.
        whole: the text is the whole file, so that its last record is not cut.
        header: whether the first line names the columns, as the user said; None: to be found.
        named: columns that the user named.
    """
    lines = text.removeprefix("\ufeff")
    first = lines.partition("\n")[0].strip()
    if not tabs and (marked := SEPARATOR_LINE.fullmatch(first)):
        dialect = Dialect(marked[1], skip=1)
        lines = lines.partition("\n")[2]
    else:
        dialect = Dialect("\t" if tabs else delimiter_of(lines))
    dialect = replace(dialect, quotes=_quotes_of(lines, dialect.delimiter, tabs, whole))
    if header is not None:
        return replace(dialect, header=header)
    rows = _cut(lines, dialect.delimiter, dialect.quotes, whole)
    if not rows or any(name in rows[0].fields for name in named):
        return dialect
    has_header, doubt = _has_header([row.fields for row in rows if not row.problem])
    return replace(dialect, header=has_header, doubt=doubt)


def delimiter_of(text: str) -> str:
    """The delimiter that cuts the header into most columns, and nearly all rows into as many.

    ``csv.Sniffer`` is not used: it takes letters and quoted commas for delimiters too readily.
    """
    best, columns = ",", 1
    for delimiter in DELIMITERS:
        widths = [len(row.fields) for row in islice(_records(text, delimiter, "double"), 100)]
        fits = sum(width == widths[0] for width in widths) if widths else 0
        if fits >= 0.9 * len(widths) and widths and widths[0] > columns:
            best, columns = delimiter, widths[0]
    return best


def _records(text: str, delimiter: str, quotes: Quotes, width: int = 0) -> Iterator[Record]:
    lines = io.StringIO(text, newline="\n")
    return islice(records(lines, delimiter, quotes, width), MOST_ROWS)


def _cut(text: str, delimiter: str, quotes: Quotes, whole: bool) -> list[Record]:
    """The first records; the last one is left out if the text's end may have cut it."""
    first = next(_records(text, delimiter, quotes), None)
    found = list(_records(text, delimiter, quotes, len(first.fields) if first else 0))
    return found if whole or len(found) < 2 else found[:-1]


def _quotes_of(text: str, delimiter: str, tabs: bool, whole: bool) -> Quotes:
    """How the file uses quotes: in the way that cuts most lines into as many fields as the header.

    In a tsv each line is a row and quotes are text, unless fields hold quotes doubled as in csv or
    the header is quoted.
    """
    if '"' not in text:
        return "none" if tabs else "double"
    double = _cut(text, delimiter, "double", whole)
    none = _cut(text, delimiter, "none", whole)
    if tabs:
        clear = text.lstrip().startswith('"') or '""' in text
        if _misfits(none):
            return "double" if _misfits(double) < _misfits(none) else "none"
        spans = any(record.lines > 1 for record in double)
        return "double" if clear and not spans and not _misfits(double) else "none"
    if not _misfits(double):
        return "double"
    if '\\"' in text:
        escaped = _cut(text, delimiter, "backslash", whole)
        if _misfits(escaped) < _misfits(double):
            return "backslash"
    return "double" if _misfits(none) else "none"


def _misfits(found: Sequence[Record]) -> int:
    """How many lines belong to records that are broken or have not as many fields as the first."""
    width = len(found[0].fields) if found else 0
    return sum(row.lines for row in found if row.problem or len(row.fields) != width)


def _has_header(rows: Sequence[Sequence[str]]) -> tuple[bool, str]:
    """Whether the first row names the columns, and why that is in doubt; empty if it is not.

    The first row is no header for certain where every cell of it looks like the values below: a
    sentence, a number above numbers, a value that comes again below.
    """
    first, below = rows[0], [row for row in rows[1:] if len(row) == len(rows[0])]
    cells = [cell.strip() for cell in first]
    known = any(cell.casefold() in USUAL_NAMES for cell in cells)
    places = ([str(i + start) for i in range(len(cells))] for start in (0, 1))
    if known or not all(cells) or list(first) in below or cells in list(places):
        return True, ""
    seen = [_looks_like_data(cell, [row[i] for row in below]) for i, cell in enumerate(cells)]
    telling = max(len(cell.split()) for cell in cells) >= TELLING_WORDS
    if all(seen) and telling:
        return False, ""
    if any(seen) and below:
        return True, f"its first line ({', '.join(cells)[:60]}) looks like a row"
    return True, ""


def _looks_like_data(cell: str, values: Sequence[str]) -> bool:
    if NUMBER.fullmatch(cell):
        return sum(bool(NUMBER.fullmatch(v.strip())) for v in values) >= 0.9 * len(values)
    if len(cell.split()) >= SENTENCE_WORDS:
        return not cell.endswith(("?", ":"))
    # A value that comes again below. It tells nothing of a column of sentences: those all differ.
    return Counter(value.strip() for value in values)[cell] > 0
