"""One label shard: read its rows, run the engine, write one part."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jobs.label.staging import error_rows, read_shard, read_texts
from jobs.output.layout import ERRORS, mark
from jobs.output.rows import vectors_of
from jobs.roots import place_inside
from jobs.settings import settings
from jobs.specs import LabelSpec
from mtl_core import __version__
from mtl_core.config import UNTYPICAL_BELOW
from mtl_core.engine.base import Labelled
from mtl_core.engine.once import Once, label_once
from mtl_core.model.typicality import Typicality
from mtl_core.storage.parquet import (
    EMBEDDING_SCALE,
    OF_ENCODER,
    ROW_ID,
    TRUNCATED,
    TaskAnswer,
    add_labels,
    put_table,
    typicality_column,
)
from mtl_core.storage.place import Place
from worker.engines import cache_for, engine_of, folder_of, heads_of, typicality_of
from worker.lease.attempt import Attempt
from worker.lease.heartbeat import Heartbeat


@dataclass(frozen=True)
class Files:
    """The files that an attempt writes: their names, and what they say about their origin."""

    part: str
    errors: str
    """Name of the file of rows that could not be labelled."""
    origin: dict[str, str]
    """Metadata for the Parquet schema of the part."""
    errors_origin: dict[str, str]


@dataclass(frozen=True)
class Ready:
    """A shard with all that is needed to label it."""

    staged: pa.Table
    label: Callable[[], Once]
    """Labels its rows."""
    engine: str
    """What labels, for the manifest."""
    precision: str


def label_shard(attempt: Attempt, heartbeat: Heartbeat) -> dict[str, Any]:
    """Label a shard's rows and write its part under a name that holds shard, attempt and lease.

    Args:
        heartbeat: is told of progress, and confirms the lease before anything is written; an
            exception it raises ends the attempt.
    Returns:
        the result for the ledger: part, rows, checksum, counts and times.
    Raises:
        ModelError: the model on this worker is not the one the job was submitted with.
        SettingsError: output or model lie outside the configured roots, or a folder of this
            worker's own cannot be used.
    """
    spec = attempt.spec
    assert isinstance(spec, LabelSpec)
    started = time.monotonic()
    files = _files(attempt, spec)
    folder = folder_of(spec.model_dir, spec.model_sha256, heartbeat.pulse)
    output = place_inside(spec.output, settings(), settings().store_patience_s)
    make_ready = _from_stored if spec.stored else _from_texts
    ready = make_ready(attempt, spec, folder, output, heartbeat)
    typicality = typicality_of(spec, folder)
    loaded = time.monotonic()
    once, staged = ready.label(), ready.staged
    table = with_labels(staged, once.labelled, spec, typicality)
    labelled = time.monotonic()
    heartbeat.confirm()
    return {
        **_write(output, files, staged, table, once.labelled, attempt.worker, spec),
        **_facts(attempt, ready, once),
        "finished_s": round(time.time(), 3),
        "seconds": {
            "load": round(loaded - started, 3),
            "label": round(labelled - loaded, 3),
            "write": round(time.monotonic() - labelled, 3),
        },
    }


def _from_texts(
    attempt: Attempt, spec: LabelSpec, folder: Path, output: Place, heartbeat: Heartbeat
) -> Ready:
    staged, texts = read_texts(output, attempt.definition)  # no pulse: a hanging disk must be seen
    engine = engine_of(spec, folder, output, heartbeat.pulse)
    cache = cache_for(engine) if spec.cache else None

    def label() -> Once:
        return label_once(engine, texts, heartbeat.progress, cache)

    return Ready(staged, label, engine.name, engine.precision)


def _from_stored(
    attempt: Attempt, spec: LabelSpec, folder: Path, output: Place, heartbeat: Heartbeat
) -> Ready:
    """For rows that hold their embeddings: the heads alone, and no engine."""
    staged, heads = read_shard(output, attempt.definition), heads_of(spec, folder)

    def label() -> Once:
        truncated = np.asarray(staged.column(TRUNCATED))
        labelled = heads.label(vectors_of(staged, spec.embedding), truncated)
        heartbeat.progress(len(staged))
        return Once(labelled, duplicates=0, cached=0, tokens=0)

    return Ready(staged, label, "stored embeddings", spec.embedding)


def _files(attempt: Attempt, spec: LabelSpec) -> Files:
    own = mark(attempt.job)
    origin = {
        **own,
        "mtl.model": spec.model,
        "mtl.model_sha256": spec.model_sha256,
        "mtl.backbone_sha256": spec.backbone_sha256,
        "mtl.version": __version__,
    }
    return Files(attempt.part, attempt.errors, origin, own)


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


def _untypical(table: pa.Table, spec: LabelSpec) -> dict[str, int]:
    """By task, how many rows are unlike the texts that it was trained on."""
    if not spec.typicality_sha256:
        return {}
    columns = {name: table[typicality_column(name)] for name, _ in spec.tasks}
    return {
        name: pc.sum(pc.less(column, UNTYPICAL_BELOW)).as_py() or 0
        for name, column in columns.items()
    }


def _write(
    output: Place,
    files: Files,
    staged: pa.Table,
    table: pa.Table,
    labelled: Labelled,
    worker: str,
    spec: LabelSpec,
) -> dict[str, Any]:
    """Write the part, and a file of the rows that were too large for memory, if there are any."""
    errors = ""
    if labelled.too_large:
        wrong = pa.array(labelled.too_large, pa.int64())
        errors = files.errors
        reasons = [f"out of memory, even alone, on {worker}"] * len(wrong)
        aside = error_rows(staged.take(wrong), reasons)
        put_table(output, f"{ERRORS}/{errors}", aside, files.errors_origin)
        table = table.filter(pc.invert(pc.is_in(table[ROW_ID], staged[ROW_ID].take(wrong))))
    written = put_table(output, files.part, table, files.origin)
    return {
        "part": files.part,
        "rows": len(table),
        "failed": len(labelled.too_large),
        "untypical": _untypical(table, spec),
        "errors": errors,
        "bytes": written.bytes,
        "sha256": written.sha256,
    }


def _facts(attempt: Attempt, ready: Ready, once: Once) -> dict[str, Any]:
    return {
        "attempt": attempt.number,
        "worker": attempt.worker,
        "tokens": once.tokens,
        "duplicates": once.duplicates,
        "cached": once.cached,
        "truncated": int(once.labelled.truncated.sum()),
        "engine": ready.engine,
        "precision": ready.precision,
    }
