"""One label shard in three steps: prepare it, answer it, write its part."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
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
from mtl_core.engine.base import Labelled
from mtl_core.engine.once import Once, prepare
from mtl_core.model.typicality import Typicality
from mtl_core.storage.parquet import (
    ROW_ID,
    TRUNCATED,
    put_table,
)
from mtl_core.storage.place import Place
from worker.columns import count_untypical, with_labels
from worker.engines import cache_for, engine_of, folder_of, heads_of, typicality_of
from worker.lease.attempt import Attempt
from worker.lease.heartbeat import Heartbeat

Progress = Callable[[int], None]
"""Is told how many texts are done."""


@dataclass(frozen=True)
class Files:
    """The files that an attempt writes: their names, and what they say about their origin."""

    part: str
    errors: str
    """Name of the file of rows that could not be labelled."""
    origin: dict[str, str]
    """Metadata for the Parquet schema of the part."""
    errors_origin: dict[str, str]


NO_FILES = Files("", "", {}, {})


@dataclass(frozen=True)
class Ready:
    """A shard that was read and tokenised: all that is needed to label it."""

    output: Place
    staged: pa.Table
    label: Callable[[Progress], Labelled]
    """Labels what must be labelled."""
    join: Callable[[Labelled], Once]
    """Makes of that the answer for every row."""
    rows: int
    """How many texts must be labelled."""
    engine: str
    """What labels, for the manifest."""
    precision: str
    nbytes: int
    """Bytes of memory that the shard takes until it is labelled."""
    load_s: float = 0.0
    """Seconds of the work so far."""
    files: Files = NO_FILES
    typicality: Mapping[str, Typicality] = field(default_factory=dict)


@dataclass(frozen=True)
class Answered:
    """A shard's answers, not yet written."""

    labelled: Labelled
    label_s: float
    """Seconds of labelling."""

    @property
    def nbytes(self) -> int:
        """Bytes of memory."""
        probabilities = (answer.probabilities.nbytes for answer in self.labelled.labels)
        return self.labelled.embeddings.nbytes + sum(probabilities)


def prepare_shard(attempt: Attempt, heartbeat: Heartbeat) -> Ready:
    """Read a shard's rows and tokenise them; the engine is loaded first if it must be.

    Raises:
        ModelError: the model on this worker is not the one the job was submitted with.
        SettingsError: output or model lie outside the configured roots, or a folder of this
            worker's own cannot be used.
    """
    spec = attempt.spec
    assert isinstance(spec, LabelSpec)
    started, files = time.monotonic(), _files(attempt, spec)
    folder = folder_of(spec.model_dir, spec.model_sha256, heartbeat.pulse)
    output = place_inside(spec.output, settings(), settings().store_patience_s)
    make_ready = _from_stored if spec.stored else _from_texts
    ready = make_ready(attempt, spec, folder, output, heartbeat)
    typicality = typicality_of(spec, folder)
    seconds = time.monotonic() - started
    return replace(ready, files=files, typicality=typicality, load_s=seconds)


def answer_shard(ready: Ready, progress: Progress) -> Answered:
    """Label a shard's texts.

    Args:
        progress: called after each batch; an exception that it raises ends the call.
    """
    started = time.monotonic()
    labelled = ready.label(progress)
    return Answered(labelled, time.monotonic() - started)


def write_shard(
    attempt: Attempt, ready: Ready, answered: Answered, heartbeat: Heartbeat
) -> dict[str, Any]:
    """Write a shard's part under a name that holds shard, attempt and lease.

    Args:
        heartbeat: confirms the lease before anything is written; an exception it raises ends the
            attempt.
    Returns:
        the result for the ledger: part, rows, checksum, counts and times.
    """
    spec, started = attempt.spec, time.monotonic()
    assert isinstance(spec, LabelSpec)
    once, files = ready.join(answered.labelled), ready.files
    table = with_labels(ready.staged, once.labelled, spec, ready.typicality)
    heartbeat.confirm()
    return {
        **_write(ready.output, files, ready.staged, table, once.labelled, attempt.worker, spec),
        **_facts(attempt, ready, once),
        "finished_s": round(time.time(), 3),
        "seconds": {
            "load": round(ready.load_s, 3),
            "label": round(answered.label_s, 3),
            "write": round(time.monotonic() - started, 3),
        },
    }


def _from_texts(
    attempt: Attempt, spec: LabelSpec, folder: Path, output: Place, heartbeat: Heartbeat
) -> Ready:
    staged, texts = read_texts(output, attempt.definition)  # no pulse: a hanging disk must be seen
    engine = engine_of(spec, folder, output, heartbeat.pulse)
    prepared = prepare(engine, texts, cache_for(engine) if spec.cache else None)
    encoded = prepared.encoded

    def label(progress: Progress) -> Labelled:
        return engine.label_encoded(encoded, progress)

    nbytes = staged.nbytes + encoded.ids.nbytes
    return Ready(
        *(output, staged, label, prepared.join),
        *(len(encoded.ids), engine.name, engine.precision, nbytes),
    )


def _from_stored(
    attempt: Attempt, spec: LabelSpec, folder: Path, output: Place, heartbeat: Heartbeat
) -> Ready:
    """For rows that hold their embeddings: the heads alone, and no engine."""
    staged, heads = read_shard(output, attempt.definition), heads_of(spec, folder)

    def label(progress: Progress) -> Labelled:
        truncated = np.asarray(staged.column(TRUNCATED))
        labelled = heads.label(vectors_of(staged, spec.embedding), truncated)
        progress(len(staged))
        return labelled

    def join(labelled: Labelled) -> Once:
        return Once(labelled, duplicates=0, cached=0, tokens=0)

    return Ready(
        *(output, staged, label, join),
        *(len(staged), "stored embeddings", spec.embedding, staged.nbytes),
    )


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
        "untypical": count_untypical(table, spec),
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
