"""Conditions on an output's columns: ``--where "topic = 'Sports' and topic_score < 0.7"``."""

import os
import re
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from mtl_core.errors import InputError
from mtl_core.suggest import near_hint

TOKEN = re.compile(
    r"""\s*(?:(?P<text>'(?:[^']|'')*')|(?P<number>-?\d+(?:\.\d+)?)|(?P<name>"[^"]+"|\w[\w.]*)
    |(?P<sign><=|>=|!=|<>|=|<|>|\(|\)|,))""",
    re.VERBOSE,
)
COMPARISONS: dict[str, Callable[[Any, Any], pc.Expression]] = {
    "=": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
    "<>": lambda a, b: a != b,
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
}
UNFIT = (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError)
"""What pyarrow raises where a condition does not fit the types of the columns."""
FORM = (
    "a condition is COLUMN = 'TEXT', COLUMN < NUMBER, COLUMN in ('A', 'B') or COLUMN is null; "
    "several are joined by `and`"
)


class Condition:
    """A condition on the rows of a table."""

    def __init__(self, text: str, there: Collection[str]) -> None:
        """Read a condition.

        Args:
            there: names of the columns there are.
        Raises:
            InputError: it cannot be read, or names a column that is not there.
        """
        self.text, self._there = text, there
        self._tokens = _tokens(text)
        self.columns: set[str] = set()
        """Names of the columns it looks at."""
        expression = self._one()
        while self._tokens:
            self._expect("and")
            expression = expression & self._one()
        self._expression = expression

    def of(self, table: pa.Table) -> pa.Table:
        """The rows of a table that meet it.

        Raises:
            InputError: it does not fit the types of the columns.
        """
        return table.take(pa.array(self._rows(table)))

    def mask(self, table: pa.Table) -> NDArray[np.bool_]:
        """Which rows of a table meet it, bool [N].

        Raises:
            InputError: it does not fit the types of the columns.
        """
        mask = np.zeros(len(table), dtype=bool)
        mask[self._rows(table)] = True
        return mask

    def row_groups(self, path: Path) -> list[int] | None:
        """Row groups of a Parquet file that may hold such rows, by their statistics; None: all.

        Of label columns, which are dictionaries, pyarrow uses no statistics.
        """
        import pyarrow.dataset as ds  # not at once: most commands do without
        from pyarrow.fs import LocalFileSystem

        form, here = ds.ParquetFileFormat(), os.path.abspath(path)
        whole = form.make_fragment(here, filesystem=LocalFileSystem())
        try:
            some = whole.subset(filter=self._expression, schema=_plain(whole.physical_schema))
        except UNFIT:
            return None  # the rows will tell
        return [group.id for group in some.row_groups]

    def _rows(self, table: pa.Table) -> NDArray[np.int64]:
        plain = table.cast(_plain(table.schema))
        kept = plain.append_column("", pa.array(np.arange(len(table))))
        try:
            found: NDArray[np.int64] = kept.filter(self._expression).column("").to_numpy()
        except UNFIT as error:
            first = str(error).splitlines()[0]
            raise InputError(f"--where {self.text}: does not fit the columns ({first})") from error
        return found

    def _one(self) -> pc.Expression:
        name = self._column()
        field, sign = pc.field(name), self._next().lower()
        if sign in COMPARISONS:
            return COMPARISONS[sign](field, pa.scalar(self._value()))
        if sign == "in":
            self._expect("(")
            values = [self._value()]
            while (found := self._next()) == ",":
                values.append(self._value())
            if found != ")":
                raise self._unreadable()
            return field.isin(values)
        if sign == "is":
            word = self._next().lower()
            if word == "not":
                self._expect("null")
                return ~field.is_null()
            if word == "null":
                return field.is_null()
        raise self._unreadable()

    def _column(self) -> str:
        name = self._next().strip('"')
        if name not in self._there:
            raise InputError(
                f"--where {self.text}: no column '{name}'{near_hint(name, self._there)}"
            )
        self.columns.add(name)
        return name

    def _value(self) -> str | float | int:
        token = self._next()
        if token.startswith("'"):
            return token[1:-1].replace("''", "'")
        try:
            return float(token) if "." in token else int(token)
        except ValueError:
            raise self._unreadable() from None

    def _next(self) -> str:
        if not self._tokens:
            raise self._unreadable()
        return self._tokens.pop(0)

    def _expect(self, word: str) -> None:
        if self._next().lower() != word:
            raise self._unreadable()

    def _unreadable(self) -> InputError:
        return InputError(f"--where {self.text}: {FORM}")


def _tokens(text: str) -> list[str]:
    found: list[str] = []
    at = 0
    while text[at:].strip():
        match = TOKEN.match(text, at)
        if match is None:
            raise InputError(f"--where {text}: {FORM}")
        found.append(match.group().strip())
        at = match.end()
    return found


def _plain(schema: pa.Schema) -> pa.Schema:
    """A schema with the values' types instead of dictionaries: what conditions compare with."""
    for index, field in enumerate(schema):
        if pa.types.is_dictionary(field.type):
            schema = schema.set(index, field.with_type(field.type.value_type))
    return schema
