"""Which column holds the text: the one named, or the one whose values read most like text."""

from collections.abc import Mapping, Sequence
from itertools import islice

import pyarrow as pa

from jobs.input.readers import TextColumn, inner_fields, is_text, read_rows
from jobs.specs import InputFile
from mtl_core.errors import InputError
from mtl_core.suggest import near_hint

# Without --text-column the first of these that is there is taken, else the only text column.
USUAL_TEXT_COLUMNS = ("text", "sentence")
LOOKED_AT = 500
"""So many rows are looked at to see which column reads like text."""
CLEARLY = 2.0
"""A column is chosen if it reads so many times more like text than any other, …"""
READS_LIKE_TEXT = 8.0
"""… and has at least so many letters a value."""


def find_text_column(
    files: Sequence[InputFile],
    types: Mapping[str, pa.DataType],
    nested: Mapping[str, dict[str, bool]],
) -> tuple[str, str]:
    """The column to label, and a note for the user on how it was found; empty if that is clear.

    Args:
        types: the type of each column over all files.
        nested: for each column its inner fields, and whether each can hold the text.
    Raises:
        InputError: none could be it, or several could and none reads clearly most like text.
    """
    path = files[0].name
    texts = [name for name, kind in types.items() if is_text(kind) and not nested[name]]
    for usual in USUAL_TEXT_COLUMNS:
        if usual in texts:
            return usual, ""
    if len(texts) == 1:
        return texts[0], ""
    if not texts:
        inner = [f"{name}.{i}" for name in nested for i, text in nested[name].items() if text]
        hint = f"; --text-column can name a field: {', '.join(inner[:5])}" if inner else ""
        raise InputError(f"{path}: no text column among: {', '.join(types)}{hint}")
    likeness = _likeness(files[0], texts)
    first, *others = sorted(texts, key=lambda name: -likeness.get(name, 0))
    best, second = likeness.get(first, 0), likeness.get(others[0], 0)
    if best >= READS_LIKE_TEXT and best >= CLEARLY * second:
        return first, f"{path}: labelling column '{first}' (--text-column names another)"
    raise InputError(
        f"{path}: several columns could hold the text ({', '.join(texts)}); "
        f"say which by --text-column {first}"
    )


def _likeness(file: InputFile, names: Sequence[str]) -> dict[str, float]:
    """How much each column's values read like text.

    That is the mean number of letters of a value, times the share of values that differ.
    """
    own = [name for name in names if name not in dict(file.partition)]
    found = {}
    for name in own:
        chunk = next(read_rows(file, TextColumn(((name,),)), LOOKED_AT), None)
        if chunk is None or name not in chunk.table.column_names or not len(chunk.table):
            continue
        values = chunk.table.column(name).slice(0, LOOKED_AT).to_pylist()
        differing = len(set(values)) / len(values)
        found[name] = differing * sum(map(_letters, values)) / len(values)
    return found


def _letters(value: str) -> int:
    """How many letters a value has; 0 for a single word in ASCII, which is no sentence."""
    if len(value.split()) < 2 and value.isascii():
        return 0
    return sum(character.isalpha() for character in islice(value, 1000))


def text_path(file: InputFile, fields: Sequence[pa.Field], name: str) -> tuple[str, ...]:
    """Where a text column is: a column of that name, else a field within one.

    Raises:
        InputError: there is no column or field of that name, or it holds no text.
    """
    known = {field.name: field for field in fields}
    if name in known:
        inner = inner_fields(known[name])
        if inner:
            names = ", ".join(f"{name}.{i}" for i in inner)
            raise InputError(f"{file.name}: column '{name}' is not text; name a field: {names}")
        if not is_text(known[name].type) and not pa.types.is_null(known[name].type):
            raise InputError(f"{file.name}: column '{name}' is {known[name].type}, not text")
        return (name,)
    first, _, rest = name.partition(".")
    if rest and first in known:
        inner = inner_fields(known[first])
        if inner and rest not in inner:
            raise InputError(
                f"{file.name}: no field '{rest}' in '{first}'{near_hint(rest, list(inner))}"
            )
        if inner and not inner[rest]:
            raise InputError(f"{file.name}: '{name}' is not text")
        # A JSON column that does not hold objects only: each row shows whether it has the field.
        if inner or file.format in ("json", "jsonl"):
            return tuple(name.split("."))
    raise InputError(f"{file.name}: no column '{name}'{near_hint(name, list(known))}")
