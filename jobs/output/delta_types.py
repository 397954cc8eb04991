"""The types in which a Delta table holds columns: it has fewer than Parquet."""

import pyarrow as pa

from mtl_core.errors import InputError

MOST_DIGITS = 38
HELD: tuple[tuple[tuple[pa.DataType, ...], pa.DataType], ...] = (
    *(((kind,), kind) for kind in (pa.bool_(), pa.int8(), pa.float64(), pa.date32())),
    ((pa.int16(), pa.uint8()), pa.int16()),
    ((pa.int32(), pa.uint16()), pa.int32()),
    ((pa.int64(), pa.uint32()), pa.int64()),
    ((pa.uint64(),), pa.decimal128(20, 0)),
    ((pa.float16(), pa.float32()), pa.float32()),
    ((pa.string(), pa.large_string(), pa.string_view()), pa.string()),
    ((pa.binary(), pa.large_binary(), pa.binary_view()), pa.binary()),
    ((pa.date64(),), pa.date32()),
)
"""Types of Delta with the Arrow types whose values they hold. delta-rs 1.6 itself takes uint8 for
int8, and makes null of what does not fit."""


def held(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """A part's rows in types that Delta has.

    Raises:
        InputError: a value does not fit, as nanoseconds do not fit microseconds.
    """
    columns = []
    for field in schema:
        column = table.column(field.name)
        if isinstance(column.type, pa.BaseExtensionType):
            storage = [_plain_chunk(chunk) for chunk in column.chunks]
            column = pa.chunked_array(storage, _plain(column.type))
        try:
            columns.append(column.cast(field.type))
        except pa.ArrowException as error:
            raise InputError(
                f"column '{field.name}' is {column.type}, and a Delta table has {field.type}: "
                f"{str(error).splitlines()[0]}; write Parquet instead"
            ) from error
    return pa.Table.from_arrays(columns, schema=schema)


def _plain(kind: pa.DataType) -> pa.DataType:
    return pa.string() if isinstance(kind, pa.UuidType) else kind.storage_type


def _plain_chunk(chunk: pa.ExtensionArray) -> pa.Array:
    if isinstance(chunk.type, pa.UuidType):
        return pa.array([None if v is None else str(v) for v in chunk.to_pylist()], pa.string())
    return chunk.storage


def delta_type(kind: pa.DataType) -> pa.DataType | None:
    """The type in which a Delta table holds a column; None if it has none for it.

    Categories become texts, float16 float32, lists of one length lists, unsigned numbers the next
    wider signed ones, times of day and durations nothing.
    """
    if isinstance(kind, pa.BaseExtensionType):
        return delta_type(_plain(kind))
    if pa.types.is_dictionary(kind):
        return delta_type(kind.value_type)
    if pa.types.is_struct(kind):
        fields = [(field.name, delta_type(field.type)) for field in kind]
        return pa.struct(fields) if all(inner for _, inner in fields) and fields else None
    if pa.types.is_map(kind):
        key, item = delta_type(kind.key_type), delta_type(kind.item_type)
        return pa.map_(key, item) if key and item else None
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        inner = delta_type(kind.value_type)
        return pa.list_(inner) if inner else None
    if pa.types.is_timestamp(kind):
        return pa.timestamp("us", "UTC" if kind.tz else None)
    if pa.types.is_fixed_size_binary(kind):
        return pa.binary()
    if pa.types.is_decimal(kind):
        return kind if kind.precision <= MOST_DIGITS and kind.scale >= 0 else None
    return next((held for given, held in HELD if kind in given), None)
