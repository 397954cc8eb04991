"""Conditions on an output's columns: ``--where "topic = 'Sports' and topic_score < 0.7"``."""

import re
from collections.abc import Callable, Collection
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

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
        """The rows of a table that meet it."""
        plain = table
        for index, field in enumerate(table.schema):
            if pa.types.is_dictionary(field.type):
                plain = plain.set_column(
                    index, field.name, table.column(index).cast(field.type.value_type)
                )
        kept = plain.append_column("", pa.array(range(len(table)), pa.int64()))
        try:
            rows = kept.filter(self._expression).column("")
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError) as error:
            first = str(error).splitlines()[0]
            raise InputError(f"--where {self.text}: does not fit the columns ({first})") from error
        return table.take(rows)

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
