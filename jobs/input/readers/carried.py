"""The Arrow types in which columns are carried through Parquet; values stay what they are."""

import io

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mtl_core.errors import InputError


def carried_type(kind: pa.DataType) -> pa.DataType:
    """The type a column of this type is carried in.

    Views and run-end encoded columns become plain. A dictionary of strings gets indices of int32,
    which are enough for the values of many files. Any other dictionary becomes its values.
    """
    if (plain := _plain(kind)) is not None:
        return plain
    if pa.types.is_dictionary(kind):
        values = carried_type(kind.value_type)
        if pa.types.is_string(values) or pa.types.is_large_string(values):
            return pa.dictionary(pa.int32(), pa.string(), kind.ordered)
        return values
    if pa.types.is_run_end_encoded(kind):
        return carried_type(kind.value_type)
    if pa.types.is_map(kind):
        return pa.map_(_carried(kind.key_field), _carried(kind.item_field), kind.keys_sorted)
    if pa.types.is_struct(kind):
        return pa.struct([_carried(field) for field in kind])
    if pa.types.is_fixed_size_list(kind):
        return pa.list_(_carried(kind.value_field), kind.list_size)
    if pa.types.is_list(kind) or pa.types.is_list_view(kind):
        return pa.list_(_carried(kind.value_field))
    if pa.types.is_large_list(kind) or pa.types.is_large_list_view(kind):
        return pa.large_list(_carried(kind.value_field))
    return kind


def _plain(kind: pa.DataType) -> pa.DataType | None:
    if pa.types.is_string_view(kind):
        return pa.string()
    return pa.binary() if pa.types.is_binary_view(kind) else None


def _carried(field: pa.Field) -> pa.Field:
    return field.with_type(carried_type(field.type))


def carried_fields(name: str, schema: pa.Schema) -> list[pa.Field]:
    """A file's columns in the types they are carried in.

    Args:
        name: the file's name, for messages.
    Raises:
        InputError: two columns, or two fields of one, have the same name; or Parquet cannot hold a
            column's type.
    """
    for column in schema.names:
        if schema.names.count(column) > 1:
            raise InputError(f"{name}: column '{column}' is there twice; rename one of them")
    fields = []
    for field in schema.remove_metadata():
        if twice := _twice(field.type):
            raise InputError(
                f"{name}: column '{field.name}' has two fields '{twice}'; rename one of them"
            )
        own = _carried(field)
        if not _fits_parquet(own):
            raise InputError(
                f"{name}: column '{field.name}' is {field.type}, which Parquet cannot hold; "
                "leave it out, or write it as another type"
            )
        fields.append(own)
    return fields


def _twice(kind: pa.DataType) -> str:
    """A name that two fields of a nested type share; empty if there is none."""
    if isinstance(kind, pa.ExtensionType) or not pa.types.is_nested(kind):
        return ""
    inner = [kind.field(index) for index in range(kind.num_fields)]
    names = [field.name for field in inner]
    own = [name for name in names if names.count(name) > 1] if pa.types.is_struct(kind) else []
    return own[0] if own else next(filter(None, (_twice(field.type) for field in inner)), "")


def _fits_parquet(field: pa.Field) -> bool:
    def empty_lists(kind: pa.DataType) -> bool:  # can be written, but not read back
        if pa.types.is_fixed_size_list(kind) and kind.list_size == 0:
            return True
        inner = (kind.field(index).type for index in range(kind.num_fields))
        return pa.types.is_nested(kind) and any(map(empty_lists, inner))

    if empty_lists(field.type):
        return False
    try:
        pq.write_table(pa.schema([field]).empty_table(), io.BytesIO())
    except (pa.ArrowException, OSError):
        return False
    return True


def carry(column: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    """Turn a column into the type it is carried in.

    Raises:
        ArrowException: a value cannot be held by that type.
    """
    if column.type == kind:
        return column
    try:
        if "list_view" in str(column.type):
            raise pa.ArrowNotImplementedError("its cast makes invalid lists of nulls")
        if pa.types.is_run_end_encoded(column.type):
            decoded = [pc.run_end_decode(chunk) for chunk in column.chunks]
            return carry(pa.chunked_array(decoded, column.type.value_type), kind)
        if pa.types.is_dictionary(column.type) and not pa.types.is_dictionary(kind):
            values = [chunk.dictionary.take(chunk.indices) for chunk in column.chunks]
            return carry(pa.chunked_array(values, column.type.value_type), kind)
        return column.cast(kind)
    except pa.ArrowNotImplementedError:
        # Rare: nested types that no kernel casts. By way of Python the values stay the same.
        try:
            made = [pa.array(chunk.to_pylist(), kind) for chunk in column.chunks]
        except (ValueError, TypeError, OverflowError) as error:
            raise pa.ArrowInvalid(str(error)) from error
        return pa.chunked_array(made, kind)
