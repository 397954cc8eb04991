"""Reader of jsonl."""

import json
from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from jobs.readers.rows import (
    DAMAGE,
    NESTED,
    Chunk,
    RowBuffer,
    TextColumn,
    damaged,
    open_file,
    printable,
    text_problem,
    unpaired,
)
from jobs.specs import InputFile
from mtl_core.errors import InputError


class Inner:
    """The fields within a column's objects, and whether each holds text."""

    MOST = 1000
    """Beyond so many they are data, not names."""

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

    def noted(self) -> dict[str, str] | None:
        """Metadata of the column's field: its inner fields by name, if it holds objects only."""
        if self.plain or not self.texts or len(self.texts) >= self.MOST:
            return None
        return {NESTED: json.dumps(self.texts)}


class JsonlReader:
    """One JSON object a line."""

    def _lines(self, file: InputFile) -> Iterator[tuple[int, bytes]]:
        with open_file(file) as stream:
            for line, raw in enumerate(stream, start=1):
                raw = raw.removeprefix(b"\xef\xbb\xbf") if line == 1 else raw
                if raw.strip():  # a blank line is no row
                    yield line, raw

    def fields(self, file: InputFile) -> list[pa.Field]:
        """Columns by one pass over the file: a type guessed from its start would break later."""
        types: dict[str, pa.DataType] = {}
        nested: dict[str, Inner] = {}
        try:
            for _, raw in self._lines(file):
                record = _parse_object(raw)
                if isinstance(record, dict):
                    for name, value in record.items():
                        types[name] = _wider(types.get(name), value)
                        nested.setdefault(name, Inner()).add(value)
        except DAMAGE as error:
            raise InputError(f"{file.name}: cannot be read ({error})") from error
        if not types:
            raise InputError(f"{file.name}: no JSON object in any of its lines")
        return [
            pa.field(
                name, pa.string() if pa.types.is_null(kind) else kind, metadata=nested[name].noted()
            )
            for name, kind in types.items()
        ]

    def read(self, file: InputFile, text: TextColumn, chunk_rows: int) -> Iterator[Chunk]:
        fields = [field.remove_metadata() for field in self.fields(file)]
        rows = RowBuffer([*fields, *text.field()], chunk_rows)
        try:
            for line, raw in self._lines(file):
                record = _parse_object(raw)
                if isinstance(record, str):
                    rows.bad(line, record, printable(raw.strip()))
                elif problem := text_problem(found := text.of(record)):
                    rows.bad(line, problem, printable(raw.strip()))
                else:
                    values = [_as_type(record.get(f.name), f.type) for f in fields]
                    values += [found] if text.derived else []
                    if unpaired(*values):
                        rows.bad(line, "holds half a surrogate pair", printable(raw.strip()))
                    else:
                        rows.good(values)
                if rows.full:
                    yield rows.take()
        except DAMAGE as error:
            raise damaged(file, rows.row, error) from error
        yield rows.take()


def _parse_object(raw: bytes) -> dict[str, Any] | str:
    """The line's object, or why it is none."""
    try:
        record = json.loads(raw.decode("utf-8"))
    except UnicodeDecodeError as error:
        return f"not UTF-8 at byte {error.start + 1}"
    except (json.JSONDecodeError, RecursionError) as error:
        return f"broken JSON: {error}"
    if not isinstance(record, dict):
        return f"not a JSON object but {type(record).__name__}"
    return record


def _wider(known: pa.DataType | None, value: Any) -> pa.DataType:
    """The narrowest type that holds what was seen so far and this value."""
    if value is None:
        return known or pa.null()
    if isinstance(value, bool):
        own = pa.bool_()
    elif isinstance(value, int) and -(2**63) <= value < 2**63:
        own = pa.int64()
    elif isinstance(value, float):
        own = pa.float64()
    else:
        own = pa.string()
    if known is None or pa.types.is_null(known) or known == own:
        return own
    if {known, own} == {pa.int64(), pa.float64()}:
        return pa.float64()
    return pa.string()


def _as_type(value: Any, kind: pa.DataType) -> Any:
    if value is None or not pa.types.is_string(kind):
        return value
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
