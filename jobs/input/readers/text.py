"""Readers of txt, csv and tsv."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice

import pyarrow as pa

from jobs.input.readers.records import Record, records
from jobs.input.readers.rows import (
    DAMAGE,
    Chunk,
    RowBuffer,
    TextColumn,
    as_read,
    damaged,
    in_words,
    lines_of,
    printable,
    text_problem,
    undecodable,
    unpaired,
)
from jobs.specs import InputFile
from mtl_core.errors import InputError


class TxtReader:
    """Reads txt files: a sentence a line."""

    def fields(self, file: InputFile) -> list[pa.Field]:
        return [pa.field("text", pa.string())]

    def read(self, file: InputFile, text: TextColumn, chunk_rows: int) -> Iterator[Chunk]:
        rows = RowBuffer(self.fields(file), chunk_rows)
        try:
            for line, raw in enumerate(lines_of(file), start=1):
                raw = raw.rstrip(b"\r\n")
                try:
                    sentence = raw.decode("utf-8")
                except UnicodeDecodeError as error:
                    rows.bad(line, f"{undecodable(file)} at byte {error.start + 1}", printable(raw))
                else:
                    problem = text_problem(sentence)
                    if problem:
                        rows.bad(line, problem, sentence)
                    else:
                        rows.good((sentence,))
                if rows.full:
                    yield rows.take()
        except DAMAGE as error:
            raise damaged(file, rows.row, error) from error
        yield rows.take()


@dataclass(frozen=True)
class Columns:
    """The columns of a csv or tsv file."""

    names: tuple[str, ...]
    """One for each field of a record."""
    empty: frozenset[int]
    """Places of columns that have no name and no value in any row. They are left out."""

    @property
    def kept(self) -> list[int]:
        """Places of the columns that are carried through."""
        return [place for place in range(len(self.names)) if place not in self.empty]


class CsvReader:
    """Reads csv and tsv files, with the delimiter, quotes and header that ``InputFile`` names."""

    def fields(self, file: InputFile) -> list[pa.Field]:
        columns = columns_of(file)
        return [pa.field(columns.names[place], pa.string()) for place in columns.kept]

    def read(self, file: InputFile, text: TextColumn, chunk_rows: int) -> Iterator[Chunk]:
        columns = columns_of(file)
        rows = RowBuffer([*self.fields(file), *text.field()], chunk_rows)
        try:
            for record in _records(file, len(columns.names), header=False):
                _sort_in(rows, record, columns, text, file)
                if rows.full:
                    yield rows.take()
        except DAMAGE as error:
            raise damaged(file, rows.row, error) from error
        yield rows.take()


def _records(file: InputFile, width: int, *, header: bool) -> Iterator[Record]:
    """The file's records, each with its line in the file.

    Args:
        width: how many fields a record should have; 0: not known.
        header: whether the header is among them.
    """
    # Bytes that are no UTF-8 become surrogates, by which their row is found and set aside later.
    lines = (raw.decode("utf-8", "surrogateescape") for raw in lines_of(file))
    found = records(islice(lines, file.skip, None), file.delimiter, file.quotes, width)
    for number, record in enumerate(found):
        if header or number or not file.header:
            line = record.line + file.skip
            yield Record(line, record.fields, record.problem, record.lines)


@lru_cache(maxsize=64)
def columns_of(file: InputFile) -> Columns:
    """The file's columns, named by its header or by their places.

    If a column has no name, the whole file is read to see whether the column holds anything.

    Raises:
        InputError: there is no header, or one that cannot be used.
    """
    try:
        first = next(_records(file, 0, header=True), None)
    except DAMAGE as error:
        raise InputError(f"{file.name}: its header cannot be read ({in_words(error)})") from error
    if first is None:
        raise InputError(f"{file.name}: no header line; the first line must name the columns")
    if not file.header:
        return Columns(tuple(f"column_{n + 1}" for n in range(len(first.fields))), frozenset())
    if first.problem:
        raise InputError(f"{file.name}: its header cannot be read ({first.problem})")
    if unpaired(*first.fields):
        raise InputError(
            f"{file.name}: its header is {undecodable(file)}; name the file's by --encoding"
        )
    header = first.fields
    named = [name for name in header if name.strip()]
    repeated = sorted({name for name in named if named.count(name) > 1})
    if repeated:
        raise InputError(f"{file.name}: column '{repeated[0]}' is named twice in the header")
    names = [_name(place, name, header) for place, name in enumerate(header)]
    nameless = [place for place, name in enumerate(header) if not name.strip()]
    return Columns(tuple(names), _empty(file, nameless, len(names)))


def _name(place: int, name: str, header: Sequence[str]) -> str:
    if name.strip():
        return name
    made = f"column_{place + 1}"
    while made in header:
        made = f"_{made}"
    return made


def _empty(file: InputFile, places: Sequence[int], width: int) -> frozenset[int]:
    """Which of these columns hold nothing in any row."""
    empty = set(places)
    if not empty:
        return frozenset()
    try:
        for record in _records(file, width, header=False):
            if not record.problem and len(record.fields) >= width:
                empty = {place for place in empty if not record.fields[place].strip()}
    except DAMAGE:
        pass  # the reader of the rows meets it again, and says after which row
    return frozenset(empty)


def _sort_in(
    rows: RowBuffer, record: Record, columns: Columns, text: TextColumn, file: InputFile
) -> None:
    values, width = record.fields, len(columns.names)
    if len(values) > width and not any(values[width:]):
        values = values[:width]  # delimiters at a line's end: empty fields beyond the header
    fits = not record.problem and len(values) == width
    named = zip(columns.names, values, strict=False)
    found = text.of(dict(named)) if fits else " ".join(values)
    shown = str(found)
    if unpaired(*values):
        rows.bad(record.line, undecodable(file), printable(as_read(shown)))
    elif record.problem:
        rows.bad(record.line, record.problem, shown)
    elif not fits:
        rows.bad(record.line, f"{len(values)} fields, the header has {width}", shown)
    elif problem := text_problem(found):
        rows.bad(record.line, problem, shown)
    else:
        kept = values if not columns.empty else [values[place] for place in columns.kept]
        rows.good([*kept, found] if text.derived else kept)
