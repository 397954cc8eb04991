"""The columns that a label job adds to a shard's rows."""

from collections.abc import Mapping

import pyarrow as pa
import pyarrow.compute as pc

from jobs.specs import LabelSpec
from mtl_core.config import UNTYPICAL_BELOW
from mtl_core.engine.base import Labelled
from mtl_core.model.typicality import Typicality
from mtl_core.storage.parquet import (
    EMBEDDING_SCALE,
    OF_ENCODER,
    TaskAnswer,
    add_labels,
    typicality_column,
)


def with_labels(
    staged: pa.Table,
    labelled: Labelled,
    spec: LabelSpec,
    statistics: Mapping[str, Typicality],
) -> pa.Table:
    """Add the model's columns behind the shard's.

    A label is null where its score is below the task's threshold, or the row is not typical enough.

    Args:
        statistics: of typicality, by task; empty: no such columns are written.
    """
    found = {answer.task.name: answer for answer in labelled.labels}
    thresholds = dict(spec.thresholds)
    answers = [
        TaskAnswer(
            found[name].task,
            found[name].probabilities,
            statistics[name].typicality(labelled.embeddings) if statistics else None,
            thresholds.get(name, 0.0),
            spec.min_typicality,
        )
        for name, _ in spec.tasks
    ]
    stored = [name for name in OF_ENCODER if spec.stored and name in staged.column_names]
    table = add_labels(
        staged.drop_columns(stored),
        answers,
        labelled.embeddings,
        labelled.truncated,
        embedding=spec.embedding,
        abstains=spec.abstains,
        top=spec.top,
    )
    if EMBEDDING_SCALE in stored:  # made again, its last bit may differ
        at = table.schema.get_field_index(EMBEDDING_SCALE)
        table = table.set_column(at, table.schema.field(at), staged.column(EMBEDDING_SCALE))
    return table


def count_untypical(table: pa.Table, spec: LabelSpec) -> dict[str, int]:
    """By task, how many rows are unlike the texts that it was trained on."""
    if not spec.typicality_sha256:
        return {}
    columns = {name: table[typicality_column(name)] for name, _ in spec.tasks}
    return {
        name: pc.sum(pc.less(column, UNTYPICAL_BELOW)).as_py() or 0
        for name, column in columns.items()
    }
