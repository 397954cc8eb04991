"""Finalising: a label job whose shards are all settled gets its manifest and ``_SUCCESS``.

Finalising is idempotent: whichever worker does it, and however often, the folder ends the same. The
rename of the manifest (in a store, its put) is the commit.
"""

import platform
import time
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from jobs.label.join import clear, is_joined, join
from jobs.label.staging import error_rows, read_shard
from jobs.ledger.ledger import Ledger
from jobs.ledger.lifecycle import JobState
from jobs.ledger.presence import Lock
from jobs.ledger.snapshot import Counts
from jobs.output.generations import engines_of
from jobs.output.layout import (
    EMPTY_PART,
    ERROR_FILE,
    ERRORS,
    HALF_WRITTEN,
    INPUT_ERRORS,
    MANIFEST,
    PART,
    README,
    SUCCESS,
    job_of,
    mark,
    read_manifest,
    remove_work,
    set_aside_name,
)
from jobs.output.manifest import (
    Column,
    ErrorRows,
    Input,
    Manifest,
    ModelFacts,
    Part,
    Rows,
    sum_counts,
)
from jobs.output.readme import readme
from jobs.roots import place_inside
from jobs.specs import LabelSpec
from mtl_core.errors import InputError, OutputError
from mtl_core.files import file_sha256
from mtl_core.storage.address import place_of
from mtl_core.storage.parquet import ROW_ID, label_fields, put_table
from mtl_core.storage.place import Place
from mtl_core.tasks import Task


def finalise(ledger: Ledger, job: str) -> bool:
    """Finish a job whose shards are all done or set aside.

    Returns:
        whether this call finished it; False when another process is at it, or there is nothing to
        do.
    Raises:
        OutputError: a completed part has gone from the output folder, or cannot be seen from this
            machine. After this and all other errors the job is still ``finalising``.
        OSError: the output cannot be written.
        MtlError: this worker may not write to the output.
    """
    with Lock(ledger.redis, f"mtl:{{{job}}}:finaliser").held(ledger.settings.lease_s) as alone:
        snapshot = ledger.snapshot(job)
        runs = snapshot.state in (JobState.RUNNING, JobState.FINALISING)
        if not (alone and runs and snapshot.settled):
            return False
        stepped = ledger.transition(job, JobState.FINALISING)
        if not stepped and ledger.state(job) is not JobState.FINALISING:
            return False  # it was cancelled or paused just now
        spec = ledger.spec(job)
        reason = "; ".join(sorted(set(ledger.poisoned(job).values()))[:3])
        if isinstance(spec, LabelSpec):
            _finish_output(ledger, job, spec)
        elif reason:
            return ledger.transition(job, JobState.FAILED, reason)
        return ledger.transition(job, JobState.PARTIAL if reason else JobState.DONE, reason)


def _finish_output(ledger: Ledger, job: str, spec: LabelSpec) -> None:
    """Write the job's output; that of an append joins the output it is for."""
    patience_s = ledger.settings.store_patience_s
    output = place_inside(spec.output, ledger.settings, patience_s)
    if not spec.appends:
        _write_output(ledger, job, spec, output)
        return
    whole = place_inside(spec.appends, ledger.settings, patience_s)
    if not is_joined(whole, output, job):
        _write_output(ledger, job, spec, output)
        join(whole, output, job, spec)
    if not ledger.poisoned(job):
        clear(output, job)  # else `mtl retry` still needs it


def _write_output(ledger: Ledger, job: str, spec: LabelSpec, output: Place) -> None:
    results = ledger.results(job)
    missing = sorted({r["part"] for r in results.values()} - set(output.matching("part-*.parquet")))
    if missing:
        count = f"{len(missing)} of {len(results)} parts"
        raise OutputError(
            f"{output.at(missing[0])} has gone ({count}); the same command begins anew"
        )
    set_aside = _write_set_aside(ledger, job, output)
    _remove_all_but(output, job, results, set_aside)
    if not results:
        _write_empty_part(output, job, spec)
    manifest = _manifest(ledger, job, spec, output, results)
    output.write_text(README, readme(manifest))
    output.write_json(MANIFEST, manifest.as_json())
    output.write_text(SUCCESS, "")
    if not set_aside:
        remove_work(output, job)  # else `mtl retry` still needs it


def _remove_all_but(
    output: Place, job: str, results: dict[str, dict[str, Any]], set_aside: set[str]
) -> None:
    """Remove the files of attempts that did not win, and what killed writers left.

    A file is removed only if it has a name that this software gives and bears this job's mark. A
    half-written file can bear no mark; its name is enough.
    """
    winners = {result["part"] for result in results.values()} | set_aside
    winners |= {result["errors"] for result in results.values() if result.get("errors")}
    there = [*output.names(), *output.names(ERRORS)]
    names = [(name, name.rpartition("/")[2]) for name in there]
    others = [name for name, last in names if last not in winners and _has_our_name(last)]
    output.delete(*(name for name in others if _says_so(output, name, job)))


def _has_our_name(name: str) -> bool:
    """Whether a file has the name of an attempt's file, or of a half-written file of ours."""
    half = HALF_WRITTEN.fullmatch(name)
    if half:
        own = (MANIFEST, README, SUCCESS, INPUT_ERRORS)
        return _has_our_name(half["name"]) or half["name"] in own
    return name == EMPTY_PART or bool(PART.fullmatch(name) or ERROR_FILE.fullmatch(name))


def _says_so(output: Place, name: str, job: str) -> bool:
    """Whether a file with such a name bears this job's mark; a half-written one needs none."""
    return name.endswith(".tmp") or job_of(output, name) == job


def _write_set_aside(ledger: Ledger, job: str, output: Place) -> set[str]:
    """Write the rows of shards that were set aside to ``errors/``; returns the files' names."""
    shards, written = ledger.shards(job), set()
    for shard, reason in ledger.poisoned(job).items():
        name = set_aside_name(shard)
        rows = read_shard(output, shards[shard])
        put_table(output, f"{ERRORS}/{name}", error_rows(rows, [reason] * len(rows)), mark(job))
        written.add(name)
    return written


def _write_empty_part(output: Place, job: str, spec: LabelSpec) -> None:
    """Write a part without rows: where every row was bad, it still tells readers the schema."""
    tasks = [Task(name, labels) for name, labels in spec.tasks]
    fields = label_fields(
        tasks,
        spec.embedding_size,
        spec.embedding,
        abstains=spec.abstains,
        top=spec.top,
        typicality=bool(spec.typicality_sha256),
    )
    schema = pa.schema([pa.field(ROW_ID, pa.int64(), nullable=False), *fields])
    put_table(output, EMPTY_PART, schema.empty_table(), mark(job))


def _manifest(
    ledger: Ledger,
    job: str,
    spec: LabelSpec,
    output: Place,
    results: dict[str, dict[str, Any]],
) -> Manifest:
    snapshot, set_aside = ledger.snapshot(job), ledger.poisoned(job)
    parts = [Part(shard=shard, **results[shard]) for shard in sorted(results, key=shard_order)]
    with output.reading(parts[0].part if parts else EMPTY_PART) as path:
        schema = pq.read_schema(path)
    errors = [_error_entry(output, name) for name in output.names(ERRORS) if _is_error_file(name)]
    now = time.time()
    return Manifest(
        job=job,
        state=JobState.PARTIAL if set_aside else JobState.DONE,
        rows=_rows(snapshot.rows, parts),
        tokens=sum(part.tokens for part in parts),
        inputs=tuple(Input(**file.model_dump()) for file in spec.inputs),
        relabels=spec.relabels,
        labelled_files=_labelled_files(spec),
        limit=spec.limit,
        id_column=spec.id_column or "",
        text_columns=spec.text_columns,
        text_column=spec.text_column,
        model=ModelFacts(
            name=spec.model,
            sha256=spec.model_sha256,
            backbone_sha256=spec.backbone_sha256,
            typicality_sha256=spec.typicality_sha256,
            tasks=dict(spec.tasks),
        ),
        embedding=spec.embedding,
        thresholds=dict(spec.thresholds),
        min_typicality=spec.min_typicality,
        engines=engines_of(parts),
        schema=tuple(Column(name=field.name, type=str(field.type)) for field in schema),
        parts=tuple(parts),
        errors=tuple(errors),
        attempts=dict(snapshot.attempts),
        created=_iso(snapshot.created_s),
        finished=_iso(now),
        seconds=round(now - snapshot.created_s, 3),
        software=_software(),
    )


def _labelled_files(spec: LabelSpec) -> tuple[str, ...]:
    """Of an output labelled anew, the files that its rows came from; empty: that is not known."""
    if not spec.relabels:
        return ()
    try:
        source = read_manifest(place_of(spec.relabels))
    except InputError:
        return ()  # it has gone meanwhile; such an output cannot be appended to
    whole = source.limit is None
    if source.relabels:
        return source.labelled_files if whole else ()
    return tuple(file.sha256 for file in source.inputs) if whole else ()


def _rows(counts: Counts, parts: Sequence[Part]) -> Rows:
    return Rows(
        total=counts.total,
        labelled=sum(part.rows for part in parts),
        errors=counts.failed,
        truncated=sum(part.truncated for part in parts),
        duplicates=sum(part.duplicates for part in parts),
        cached=sum(part.cached for part in parts),
        untypical=sum_counts(part.untypical for part in parts),
    )


def _software() -> dict[str, str]:
    names = ("mtl-batch", "pyarrow", "torch", "transformers")
    return {"python": platform.python_version(), **{name: version(name) for name in names}}


def _is_error_file(name: str) -> bool:
    last = name.rpartition("/")[2]
    return last == INPUT_ERRORS or bool(ERROR_FILE.fullmatch(last))


def _error_entry(output: Place, name: str) -> ErrorRows:
    with output.reading(name) as path:
        rows = pq.read_metadata(path).num_rows
        return ErrorRows(file=name, rows=rows, sha256=file_sha256(path))


def shard_order(shard: str) -> tuple[int, ...]:
    """A key that sorts shards and their pieces (``7.2`` is one of shard 7) by their rows."""
    return tuple(int(number) for number in shard.split("."))


def _iso(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
