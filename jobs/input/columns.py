"""One set of columns over all files: their types, and the names under which they are written."""

from collections.abc import Iterable, Mapping, Sequence

import pyarrow as pa

from jobs.input.readers import LONG
from jobs.specs import InputFile
from mtl_core.errors import InputError


class Columns:
    """Gathers the columns of files, one after another."""

    def __init__(self) -> None:
        self._types: dict[str, pa.DataType] = {}
        self._where: dict[str, str] = {}
        self._long: set[str] = set()
        self._from_json: set[str] = set()
        self.notes: list[str] = []
        """Notes for the user on columns that had to become text."""

    def add(self, file: InputFile, fields: Sequence[pa.Field]) -> None:
        """Take in a file's columns.

        Raises:
            InputError: no type holds the values that a column has in this file and in those before.
        """
        for field in fields:
            known = self._types.get(field.name, pa.null())
            long = LONG.encode() in (field.metadata or {})
            exact = not (long or field.name in self._long)
            wide = one_type(known, field.type, exact_in_double=exact)
            where = self._where.get(field.name, file.name)
            if wide is None:
                raise InputError(
                    f"{file.name}: column '{field.name}' is {field.type}, but {known} in {where}; "
                    "label them in separate jobs"
                )
            if _is_text(wide) and not all(map(_is_string_or_null, (known, field.type))):
                self.notes.append(
                    f"column '{field.name}' is carried through as text: {known} in {where}, "
                    f"{field.type} in {file.name}"
                )
            self._types[field.name] = wide
            if pa.types.is_null(known):
                self._where[field.name] = file.name
            if long:
                self._long.add(field.name)
            if file.format in ("json", "jsonl"):
                self._from_json.add(field.name)

    def types(self) -> dict[str, pa.DataType]:
        """Each column's type over all files; a JSON column without any value is of strings."""
        return {
            name: pa.string() if pa.types.is_null(kind) and name in self._from_json else kind
            for name, kind in self._types.items()
        }

    def first_file(self, name: str) -> str:
        """The name of the first file in which a column has a type other than null."""
        return self._where[name]


def one_type(
    one: pa.DataType, other: pa.DataType, *, exact_in_double: bool = True
) -> pa.DataType | None:
    """The narrowest type that holds the values of both types; None if no type does.

    Args:
        exact_in_double: double is known to hold all the whole numbers exactly. If that is not
            known, whole numbers together with fractions become text.
    """
    if one == other or pa.types.is_null(other):
        return one
    if pa.types.is_null(one):
        return other
    if pa.types.is_dictionary(one) and pa.types.is_dictionary(other):
        return pa.dictionary(pa.int32(), pa.string(), False)
    if pa.types.is_dictionary(one) or pa.types.is_dictionary(other):
        values = [t.value_type if pa.types.is_dictionary(t) else t for t in (one, other)]
        return one_type(*values, exact_in_double=exact_in_double)
    simple = _is_simple(one) and _is_simple(other)
    if not exact_in_double and pa.types.is_floating(one) != pa.types.is_floating(other):
        return pa.string() if simple else None
    if pa.types.is_boolean(one) or pa.types.is_boolean(other):
        return pa.string() if simple else None
    if _is_text(one) != _is_text(other):
        text, plain = (one, other) if _is_text(one) else (other, one)
        return text if _is_simple(plain) else None
    try:
        schemas = [pa.schema([("x", kind)]) for kind in (one, other)]
        return pa.unify_schemas(schemas, promote_options="permissive").field(0).type
    except pa.ArrowException:
        return None


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _is_string_or_null(kind: pa.DataType) -> bool:
    plain = kind.value_type if pa.types.is_dictionary(kind) else kind
    return _is_text(plain) or pa.types.is_null(plain)


def _is_simple(kind: pa.DataType) -> bool:
    """Whether there is one way to write each value of a type as text; true of text itself."""
    return bool(
        _is_text(kind)
        or pa.types.is_integer(kind)
        or pa.types.is_floating(kind)
        or pa.types.is_boolean(kind)
        or pa.types.is_decimal(kind)
        or pa.types.is_date(kind)
        or pa.types.is_time(kind)
        or pa.types.is_timestamp(kind)
    )


def written_names(names: Iterable[str], taken: frozenset[str]) -> Mapping[str, str]:
    """The name under which each column is written: its own, or ``input_`` before it.

    Names that differ in case only are the same to DuckDB and other engines, so no two columns are
    written under such names: ``input_`` is put before a name as often as is needed.

    Args:
        taken: names that the output needs for its own columns.
    """
    used = {name.casefold() for name in taken}
    own: dict[str, str] = {}
    late: list[str] = []
    ordered = list(names)
    for name in ordered:
        if name.casefold() in used:
            late.append(name)
        else:
            own[name] = name
            used.add(name.casefold())
    for name in late:
        written = f"input_{name}"
        while written.casefold() in used:
            written = f"input_{written}"
        own[name] = written
        used.add(written.casefold())
    return {name: own[name] for name in ordered}
