"""The columns of a chunk of input as a job stages them: names, order and types over all files."""

import pyarrow as pa

from jobs.input.readers.carried import carry
from jobs.input.readers.rows import in_words
from jobs.input.source import NumberedChunk, Source
from jobs.label.staging import TEXT_COLUMN_KEY
from mtl_core.errors import InputError
from mtl_core.storage.parquet import ROW_ID


def planned_schema(source: Source) -> pa.Schema:
    """``row_id`` and the job's columns, as they are staged."""
    return pa.schema(
        [pa.field(ROW_ID, pa.int64(), nullable=False), *source.fields],
        metadata={TEXT_COLUMN_KEY: source.text_column.encode()},
    )


def conform(source: Source, numbered: NumberedChunk) -> pa.Table:
    """A chunk's good rows as they are staged: ``row_id``, then the job's columns in their order.

    Columns have the names under which they are written. One that the file lacks is null.

    Raises:
        InputError: a value cannot be held by the type that the column has over all files.
    """
    schema = planned_schema(source)
    columns = [pa.array(numbered.row_ids, pa.int64())]
    columns += [carried(source, numbered, field) for field in list(schema)[1:]]
    return pa.Table.from_arrays(columns, schema=schema)


def carried(source: Source, numbered: NumberedChunk, field: pa.Field) -> pa.Array | pa.ChunkedArray:
    """One column of a chunk's good rows, by its name and type as it is written.

    Raises:
        InputError: as :func:`conform`.
    """
    table = numbered.chunk.table
    own = next((n for n in table.column_names if source.names[n] == field.name), None)
    if own is None:
        return pa.nulls(len(table), field.type)
    try:
        return carry(table.column(own), field.type)
    except (pa.ArrowException, ValueError) as error:
        raise InputError(
            f"{numbered.file.name}: column '{field.name}' cannot be carried through as "
            f"{field.type}, its type over all files ({in_words(error)}); label it in a separate job"
        ) from error
