"""One label shard: read its rows, run the engine, write one part."""

import hashlib
import json
import time
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from jobs.label.staging import error_rows, read_first_shard, read_shard, text_column_of
from jobs.output.layout import ERRORS, mark
from jobs.roots import model_folder, place_inside
from jobs.settings import settings
from jobs.specs import LabelSpec
from mtl_core import __version__
from mtl_core.config import LabelPrecision
from mtl_core.engine.base import Engine, Labelled
from mtl_core.engine.cache import LabelCache
from mtl_core.engine.load import load_engine
from mtl_core.engine.once import Once, label_once
from mtl_core.engine.quantise import CALIBRATION_TEXTS
from mtl_core.errors import ModelError
from mtl_core.files import file_sha256
from mtl_core.model.config import CONFIG, WEIGHTS
from mtl_core.pulse import Pulse, no_pulse, with_pulse
from mtl_core.storage.parquet import (
    ROW_ID,
    TRUNCATED,
    dictionary_column,
    embedding_columns,
    label_fields,
    put_table,
    top_column,
)
from mtl_core.storage.place import Place
from worker.blame import own_trouble
from worker.lease.attempt import Attempt
from worker.lease.heartbeat import Heartbeat
from worker.process.threads import threads_of_child

CACHE_FILE = "label-cache.sqlite"
ENGINES_KEPT = 2


_engines: dict[tuple[str, ...], Engine] = {}
"""The last used engines of this process, by all that they were made of; the newest last."""


def engine_for(
    folder: Path,
    precision: LabelPrecision = "auto",
    calibration: Sequence[str] = (),
    pulse: Pulse = no_pulse,
) -> Engine:
    """The engine of a model directory, kept between shards.

    A folder's name says nothing of what it holds: a model trained anew under the name of another
    is another engine.

    Args:
        precision: the job's; where it leaves it open, this worker's own.
        calibration: texts that int8 is calibrated on.
    """
    with own_trouble("the model"):
        contents = [_sha256(folder / name) for name in (WEIGHTS, CONFIG)]
    texts = hashlib.sha256(json.dumps(list(calibration)).encode()).hexdigest()
    key = (str(folder), *contents, precision, texts)
    engine = _engines.pop(key, None)
    if engine is None:
        while len(_engines) >= ENGINES_KEPT:  # before the new one needs the memory
            del _engines[next(iter(_engines))]
        config = settings()
        with own_trouble("the engine folder, model or temporary folder"):
            engine = load_engine(
                *(folder, config.engine, precision),
                cache=config.engines,
                threads=threads_of_child(config),
                calibration=calibration,
                pulse=pulse,
            )
    _engines[key] = engine
    return engine


def engine_of(spec: LabelSpec, output: Place, pulse: Pulse = no_pulse) -> Engine:
    """The engine a job wants."""
    precision = spec.precision if spec.precision != "auto" else settings().precision
    texts = _calibration(output, spec) if precision == "int8" else ()
    folder = with_pulse(pulse, _model_folder, spec.model_dir, spec.model_sha256)
    return engine_for(Path(folder), precision, texts, pulse)


@lru_cache(maxsize=8)
def _model_folder(where: str, sha256: str) -> str:
    # Kept between shards: to see whether a copy is there takes a look into the store.
    with own_trouble("the copy of the model"):
        return str(model_folder(where, sha256, settings(), settings().store_patience_s))


def _sha256(path: Path) -> str:
    """A file's checksum, computed again only where the file is another."""
    found = path.stat()
    return _sha256_of(path, found.st_mtime_ns, found.st_size, found.st_ino)


@lru_cache(maxsize=16)
def _sha256_of(path: Path, *state: int) -> str:
    return file_sha256(path)


@lru_cache(maxsize=2)
def _calibration(output: Place, spec: LabelSpec) -> tuple[str, ...]:
    return calibration_texts(output)


def calibration_texts(output: Place) -> tuple[str, ...]:
    """Texts spread over the job's first shard: every worker takes the same."""
    shard = read_first_shard(output)
    step = max(1, len(shard) // CALIBRATION_TEXTS)
    texts: list[str] = shard.column(text_column_of(shard)).to_pylist()
    return tuple(texts[::step][:CALIBRATION_TEXTS])


def cache_for(engine: Engine) -> LabelCache:
    """This machine's cache, for the answers of one engine."""
    config = settings()
    with own_trouble("the cache of labelled texts"):
        return LabelCache(
            config.state_dir / CACHE_FILE,
            engine.config,
            engine.model_sha256,
            engine.identity,
            int(config.cache_gb * 2**30),
        )


def label_shard(attempt: Attempt, heartbeat: Heartbeat) -> dict[str, Any]:
    """Label a shard's rows and write its part under a name that holds shard, attempt and lease.

    Args:
        heartbeat: told of the work; it is asked before anything is written, and an exception it
            raises ends the attempt.
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
    output = place_inside(spec.output, settings(), settings().store_patience_s)
    engine = engine_of(spec, output, heartbeat.pulse)
    _demand_model(engine, spec, attempt.worker)
    staged = read_shard(output, attempt.definition)  # no pulse: a disk that hangs must be seen
    loaded = time.monotonic()
    texts = staged.column(text_column_of(staged)).to_pylist()
    once = label_once(engine, texts, heartbeat.progress, cache_for(engine) if spec.cache else None)
    table = with_labels(staged, once.labelled, spec)
    labelled = time.monotonic()
    heartbeat.confirm()
    return {
        **_write(output, attempt, staged, table, once.labelled),
        **_facts(attempt, engine, once),
        "finished_s": round(time.time(), 3),
        "seconds": {
            "load": round(loaded - started, 3),
            "label": round(labelled - loaded, 3),
            "write": round(time.monotonic() - labelled, 3),
        },
    }


def _demand_model(engine: Engine, spec: LabelSpec, worker: str) -> None:
    """Raise ModelError if an engine runs another model than the job was submitted with."""
    if engine.model_sha256 != spec.model_sha256:
        raise ModelError(
            f"model '{spec.model}' on worker {worker} has sha256 {engine.model_sha256[:12]}…, "
            f"the job was submitted with {spec.model_sha256[:12]}…"
        )


def _write(
    output: Place, attempt: Attempt, staged: pa.Table, table: pa.Table, labelled: Labelled
) -> dict[str, Any]:
    """Write the part, and aside of it the rows for which memory did not suffice."""
    errors = ""
    if labelled.too_large:
        wrong = pa.array(labelled.too_large, pa.int64())
        errors = attempt.errors
        reasons = [f"out of memory, even alone, on {attempt.worker}"] * len(wrong)
        aside = error_rows(staged.take(wrong), reasons)
        put_table(output, f"{ERRORS}/{errors}", aside, mark(attempt.job))
        table = table.filter(pc.invert(pc.is_in(table[ROW_ID], staged[ROW_ID].take(wrong))))
    assert isinstance(attempt.spec, LabelSpec)
    metadata = part_metadata(attempt.job, attempt.spec)
    written = put_table(output, attempt.part, table, metadata)
    return {
        "part": attempt.part,
        "rows": len(table),
        "failed": len(labelled.too_large),
        "errors": errors,
        "bytes": written.bytes,
        "sha256": written.sha256,
    }


def _facts(attempt: Attempt, engine: Engine, once: Once) -> dict[str, Any]:
    return {
        "attempt": attempt.number,
        "worker": attempt.worker,
        "tokens": once.tokens,
        "duplicates": once.duplicates,
        "cached": once.cached,
        "truncated": int(once.labelled.truncated.sum()),
        "engine": engine.name,
        "precision": engine.precision,
    }


def with_labels(staged: pa.Table, labelled: Labelled, spec: LabelSpec) -> pa.Table:
    """The shard's own columns with the model's behind them; no label below a task's threshold."""
    wanted, thresholds = dict(spec.tasks), dict(spec.thresholds)
    answers = {a.task.name: a for a in labelled.labels if a.task.name in wanted}
    fields = label_fields(
        [answers[name].task for name in wanted],
        labelled.embeddings.shape[1],
        spec.embedding,
        abstains=bool(thresholds),
        top=spec.top,
    )
    arrays: dict[str, pa.Array] = {TRUNCATED: pa.array(labelled.truncated)}
    for name, answer in answers.items():
        unsure = answer.scores < thresholds[name] if name in thresholds else None
        arrays[name] = dictionary_column(answer.classes, answer.task.labels, unsure)
        arrays[f"{name}_score"] = pa.array(answer.scores)
        if spec.top:
            labels = answer.task.labels
            arrays[f"{name}_top"] = top_column(answer.probabilities, labels, spec.top)
    arrays |= embedding_columns(labelled.embeddings, spec.embedding)
    schema = pa.schema([*staged.schema, *fields])
    return pa.table([*staged.columns, *(arrays[field.name] for field in fields)], schema=schema)


def part_metadata(job: str, spec: LabelSpec) -> dict[str, str]:
    """What every part says of its origin, in its Parquet schema."""
    return {
        **mark(job),
        "mtl.model": spec.model,
        "mtl.model_sha256": spec.model_sha256,
        "mtl.backbone_sha256": spec.backbone_sha256,
        "mtl.version": __version__,
    }
