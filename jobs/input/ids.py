"""Ids of rows: checking that a column tells the rows apart (``--id-column``), and hashes of them.

Hashes have 64 bits. Two of a million ids have one in common once in 37 million times.
"""

import hashlib
from array import array
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jobs.input.source import NumberedChunk, Source, read_source
from mtl_core.errors import InputError
from mtl_core.suggest import near_hint


def check_ids(source: Source, column: str) -> None:
    """Check that a column holds a different value in every row; reads the whole input.

    Memory is 8 bytes a row: hashes are compared, and only rows whose hashes agree are looked at
    again.

    Raises:
        InputError: there is no such column, or its type cannot be that of ids; a row has no value;
            two rows have the same value.
    """
    names = list(source.names)
    if column not in names:
        raise InputError(
            f"{source.files[0].name}: no id column '{column}'{near_hint(column, names)}"
        )
    hashes = array("Q")
    for numbered, row, value in _values(source, column):
        if value is None or value == "":
            raise InputError(f"{numbered.file.name}:{row}: no id in column '{column}'")
        hashes.append(hash_of(value))
    ordered = np.sort(np.frombuffer(hashes, np.uint64))
    repeated = set(ordered[1:][ordered[1:] == ordered[:-1]].tolist())
    if not repeated:
        return
    seen: dict[object, str] = {}
    for numbered, row, value in _values(source, column):
        if hash_of(value) in repeated:
            where = seen.setdefault(value, f"{numbered.file.name}:{row}")
            if where != f"{numbered.file.name}:{row}":
                raise InputError(
                    f"{numbered.file.name}:{row}: id {value!r} is that of {where}, too; "
                    "ids must differ"
                )


def hash_of(value: object) -> int:
    """A hash of an id or a text, 64 bits."""
    return int.from_bytes(hashlib.blake2b(repr(value).encode(), digest_size=8).digest())


def _values(source: Source, column: str) -> Iterator[tuple[NumberedChunk, int, object]]:
    for numbered in read_source(source):
        table = numbered.chunk.table
        if column not in table.column_names:
            raise InputError(f"{numbered.file.name}: no id column '{column}'")
        values = as_ids(numbered.file.name, table.column(column), column)
        yield from ((numbered, r, v) for r, v in zip(numbered.chunk.rows, values, strict=True))


def as_ids(where: str, values: pa.ChunkedArray, column: str) -> list[str | None]:
    """The values of an id column as texts.

    Args:
        where: the file or output that it is of, for messages.
    Raises:
        InputError: its type cannot be that of ids.
    """
    kind = values.type
    if isinstance(kind, pa.UuidType):
        return [None if value is None else str(value) for value in values.to_pylist()]
    try:
        if pa.types.is_nested(kind) or "binary" in str(kind):
            raise pa.ArrowInvalid(str(kind))
        return list(pc.cast(values, pa.string()).to_pylist())
    except pa.ArrowException as error:
        raise InputError(
            f"{where}: column '{column}' is {kind}, no id; give a column of numbers or texts by "
            "--id-column"
        ) from error
