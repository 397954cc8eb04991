"""Readers of JSON: an object a line, or an array of objects."""

import codecs
import json
import re
from collections.abc import Iterator
from functools import lru_cache
from itertools import islice
from typing import Any

import pyarrow as pa

from jobs.input.readers.rows import (
    DAMAGE,
    NESTED,
    Chunk,
    RowBuffer,
    TextColumn,
    as_read,
    damaged,
    in_words,
    lines_of,
    open_file,
    printable,
    text_problem,
    undecodable,
    unpaired,
)
from jobs.specs import InputFile
from mtl_core.errors import InputError

LONG = "mtl.long"
"""Key in the metadata of a column of whole numbers: double cannot hold all of them exactly."""
BLANKS, BETWEEN = re.compile(r"[ \t\r\n]*"), re.compile(r"[ \t\r\n,]*")
NOTES = {"long": {LONG: "1"}}
EXACT_IN_DOUBLE = 1 << 53


class Inner:
    """The fields within a column's objects, and whether each holds text."""

    MOST = 1000
    """If there are so many fields, their names are taken for data, and are not noted."""

    def __init__(self) -> None:
        self.texts: dict[str, bool] = {}
        self.plain = False
        """Whether some value was no object."""

    def add(self, value: Any) -> None:
        """Take note of a value of the column."""
        if isinstance(value, dict):
            self._add(value, "")
        elif value is not None:
            self.plain = True

    def _add(self, record: dict[str, Any], above: str) -> None:
        for name, value in record.items():
            if isinstance(value, dict):
                self._add(value, f"{above}{name}.")
            elif len(self.texts) < self.MOST:
                known = self.texts.get(f"{above}{name}", False)
                self.texts[f"{above}{name}"] = known or isinstance(value, str)

    def noted(self) -> dict[str, str]:
        """Metadata of the column's field: its inner fields by name, if it holds objects only."""
        if self.plain or not self.texts or len(self.texts) >= self.MOST:
            return {}
        return {NESTED: json.dumps(self.texts)}


Element = tuple[int, dict[str, Any] | str, str]
"""The line; the object, or why there is none; and the text that was there."""


class JsonlReader:
    """Reads files of one JSON object a line."""

    def elements(self, file: InputFile) -> Iterator[Element]:
        """The file's objects. Raises InputError where nothing more can be read."""
        keys = UniqueKeys()
        decoder = json.JSONDecoder(object_pairs_hook=keys)
        for line, raw in enumerate(lines_of(file), start=1):
            if raw.strip():  # a blank line is no row
                keys.twice = ""
                found = _parse_object(raw, decoder, file)
                yield line, keys.problem or found, printable(raw.strip())

    def fields(self, file: InputFile) -> list[pa.Field]:
        """The columns, by one pass over the file: a type guessed from its start may break later."""
        return list(_fields(self, file))

    def read(self, file: InputFile, text: TextColumn, chunk_rows: int) -> Iterator[Chunk]:
        fields = [field.remove_metadata() for field in self.fields(file)]
        rows = RowBuffer([*fields, *text.field()], chunk_rows)
        try:
            for line, record, shown in self.elements(file):
                values = _values(record, fields, text)
                if isinstance(values, str):
                    rows.bad(line, values, shown)
                else:
                    rows.good(values)
                if rows.full:
                    yield rows.take()
        except DAMAGE as error:
            raise damaged(file, rows.row, error) from error
        yield rows.take()


class JsonReader(JsonlReader):
    """Reads files of JSON arrays of objects: one array, or several behind one another."""

    def elements(self, file: InputFile) -> Iterator[Element]:
        keys, blocks = UniqueKeys(), _blocks(file)
        decoder = json.JSONDecoder(object_pairs_hook=keys)
        text, at, line, more = "", 0, 1, 1
        opened = ended = False
        while True:
            start = _behind_blanks(text, at, commas=opened)
            line += text.count("\n", at, start)
            at = start
            if not opened and text.startswith("[", at):
                opened, at = True, at + 1
                continue
            if opened and text.startswith("]", at):
                opened, at = False, at + 1
                continue
            if ended and not opened and at == len(text):
                return
            keys.twice = ""
            try:
                value, end = decoder.raw_decode(text, at)
                whole = ended or end < len(text)
            except (ValueError, RecursionError) as error:
                if ended or not _is_cut(error, text):
                    raise _broken(file, line, error) from error
                whole = False
            if not whole:
                # The value may go on: read twice as many blocks each time, or a long value would
                # be parsed from its beginning once for every block.
                added = "".join(islice(blocks, more))
                text, at, more, ended = text[at:] + added, 0, more * 2, not added
                continue
            if not opened:
                raise _broken(file, line, "something stands outside its brackets")
            shown = text[at:end]
            problem = undecodable(file) if unpaired(shown) else keys.problem
            yield line, problem or _object(value), printable(as_read(shown))
            line += shown.count("\n")
            at, more = end, 1


class UniqueKeys:
    """Makes dictionaries of JSON objects, and notes a key that one has twice: it loses a value."""

    def __init__(self) -> None:
        self.twice = ""

    def __call__(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        record = dict(pairs)
        if len(record) < len(pairs):
            names = [name for name, _ in pairs]
            self.twice = next(name for name in names if names.count(name) > 1)
        return record

    @property
    def problem(self) -> str:
        """Why the object that was read last is no row; empty if it is one."""
        return f"key {self.twice!r} is there twice" if self.twice else ""


def _behind_blanks(text: str, at: int, *, commas: bool) -> int:
    blanks = BETWEEN if commas else BLANKS
    found = blanks.match(text, at)
    return found.end() if found else at


def _is_cut(error: Exception, text: str) -> bool:
    """Whether the error may mean only that the rest of the text has not been read yet."""
    if not isinstance(error, json.JSONDecodeError):
        return False
    return error.pos >= len(text) - 16 or error.msg.startswith("Unterminated string")


@lru_cache(maxsize=64)
def _fields(reader: JsonlReader, file: InputFile) -> tuple[pa.Field, ...]:
    kinds: dict[str, str] = {}
    nested: dict[str, Inner] = {}
    try:
        for _, record, _ in reader.elements(file):
            if isinstance(record, dict):
                for name, value in record.items():
                    kinds[name] = _wider(kinds.get(name, "null"), value)
                    nested.setdefault(name, Inner()).add(value)
    except DAMAGE as error:
        raise InputError(f"{file.name}: cannot be read ({in_words(error)})") from error
    if not kinds:
        raise InputError(f"{file.name}: no JSON object in any of its lines")
    return tuple(
        pa.field(name, TYPES[kind], metadata=nested[name].noted() | NOTES.get(kind, {}))
        for name, kind in kinds.items()
    )


def _blocks(file: InputFile) -> Iterator[str]:
    """The file's text in blocks of about 64 KiB, however long its lines are."""
    # Bytes that are no UTF-8 become surrogates, by which their row is found and set aside later.
    decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
    with open_file(file) as stream:
        first = True
        while raw := stream.read(1 << 16):
            if text := decoder.decode(raw):
                yield text.removeprefix("\ufeff") if first else text
                first = False
        if rest := decoder.decode(b"", final=True):
            yield rest


def _broken(file: InputFile, line: int, why: object) -> InputError:
    return InputError(
        f"{file.name}:{line}: the JSON array is broken there ({why}); nothing after it is readable"
    )


def _parse_object(raw: bytes, decoder: json.JSONDecoder, file: InputFile) -> dict[str, Any] | str:
    """The object that a line holds, or why it holds none."""
    try:
        return _object(decoder.decode(raw.decode("utf-8")))
    except UnicodeDecodeError as error:
        return f"{undecodable(file)} at byte {error.start + 1}"
    except json.JSONDecodeError as error:
        return f"broken JSON: {error}"
    except RecursionError:
        return "broken JSON: nested too deeply"
    except ValueError:  # Python's int takes a limited number of digits only
        return "broken JSON: a number of too many digits"


def _object(value: Any) -> dict[str, Any] | str:
    if not isinstance(value, dict):
        return f"not a JSON object but {type(value).__name__}"
    if unpaired(*value):
        return "holds half a surrogate pair"
    return value


def _values(
    record: dict[str, Any] | str, fields: list[pa.Field], text: TextColumn
) -> list[Any] | str:
    """The values of a row, or why the record is no row."""
    if isinstance(record, str):
        return record
    found = text.of(record)
    if problem := text_problem(found):
        return problem
    try:
        values = [_as_type(record.get(f.name), f.type) for f in fields]
    except RecursionError:
        return "nested too deeply"
    values += [found] if text.derived else []
    return "holds half a surrogate pair" if unpaired(*values) else values


TYPES = {
    "null": pa.null(),
    "bool": pa.bool_(),
    "int": pa.int64(),
    "long": pa.int64(),
    "float": pa.float64(),
    "string": pa.string(),
}


def _wider(known: str, value: Any) -> str:
    """The narrowest kind that holds this value and all those seen so far, to the last digit."""
    if value is None:
        return known
    own = "string"
    if isinstance(value, bool):
        own = "bool"
    elif isinstance(value, int) and -(2**63) <= value < 2**63:
        own = "int" if abs(value) <= EXACT_IN_DOUBLE else "long"
    elif isinstance(value, float):
        own = "float"
    if known in ("null", own):
        return own
    both = {known, own}
    if both == {"int", "long"}:
        return "long"
    return "float" if both == {"int", "float"} else "string"


def _as_type(value: Any, kind: pa.DataType) -> Any:
    if value is None or not pa.types.is_string(kind):
        return value
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
