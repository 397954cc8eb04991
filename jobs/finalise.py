"""Finalising: a label job whose shards are all settled gets its manifest and ``_SUCCESS``.

Idempotent: whoever does it, and however often, the folder ends the same. The manifest's own
rename is the commit.
"""

import platform
import shutil
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from jobs.ledger import Ledger
from jobs.lifecycle import JobState
from jobs.output import ERRORS, MANIFEST, SUCCESS, WORK, staged_path
from jobs.plan import describe_schema, text_column_of
from jobs.readers import SAMPLE_CHARS
from jobs.specs import LabelSpec
from mtl_core.errors import JobError
from mtl_core.files import file_sha256, write_json, write_text
from mtl_core.parquet import ERROR_SCHEMA, ROW_ID, label_fields, write_table
from mtl_core.tasks import Task

FINALISER_LOCK_S = 600.0


def finalise(ledger: Ledger, job: str, token: str) -> bool:
    """Finish a job whose shards are all done or set aside.

    Args:
        token: names this caller for the finaliser's lock.
    Returns:
        whether this call finished it; False when another does, or there is nothing to do.
    Raises:
        JobError: a completed part has gone from the output folder; the job is then ``failed``.
    """
    lock = f"mtl:{{{job}}}:finaliser"
    if not ledger.lock(lock, token, FINALISER_LOCK_S):
        return False
    try:
        snapshot = ledger.snapshot(job)
        runs = snapshot.state in (JobState.RUNNING, JobState.FINALISING)
        if not runs or not snapshot.settled:
            return False
        ledger.transition(job, JobState.FINALISING)
        spec = ledger.spec(job)
        if isinstance(spec, LabelSpec):
            _write_output(ledger, job, spec)
        reason = "; ".join(sorted(set(ledger.poisoned(job).values())))
        if spec.kind == "train" and reason:
            ledger.transition(job, JobState.FAILED, reason)
        else:
            ledger.transition(job, JobState.PARTIAL if reason else JobState.DONE, reason)
        return True
    except JobError as error:
        ledger.transition(job, JobState.FAILED, str(error))
        raise
    finally:
        ledger.unlock(lock, token)


def _write_output(ledger: Ledger, job: str, spec: LabelSpec) -> None:
    output = Path(spec.output)
    if (output / SUCCESS).exists() and not (output / WORK).exists():
        return  # finished by another whose word did not reach the ledger
    results = ledger.results(job)
    missing = sorted(r["part"] for r in results.values() if not (output / r["part"]).is_file())
    if missing:
        raise JobError(f"{output / missing[0]} has gone ({len(missing)} of {len(results)} parts)")
    _write_poisoned(ledger, job, output)
    winners = {result["part"] for result in results.values()}
    for path in (*output.glob("part-*.parquet"), *output.glob(".part-*.tmp")):
        if path.name not in winners:
            path.unlink(missing_ok=True)
    if not results:
        _write_empty_part(output, spec)
    write_json(output / MANIFEST, _manifest(ledger, job, spec, results))
    write_text(output / SUCCESS, "")
    shutil.rmtree(output / WORK, ignore_errors=True)


def _write_poisoned(ledger: Ledger, job: str, output: Path) -> None:
    """Rows of shards that were set aside go to ``errors/`` with the reason."""
    shards = ledger.shards(job)
    for shard, reason in ledger.poisoned(job).items():
        staged = pq.read_table(staged_path(output, shards[shard]["file"]))
        rows, nulls = len(staged), pa.nulls(len(staged), pa.int64())
        texts = [str(text)[:SAMPLE_CHARS] for text in staged[text_column_of(staged)].to_pylist()]
        table = pa.table(
            [
                staged[ROW_ID],
                pa.nulls(rows, pa.string()),
                nulls,
                nulls,
                pa.array([reason] * rows, pa.string()),
                pa.array(texts, pa.string()),
            ],
            schema=ERROR_SCHEMA,
        )
        write_table(output / ERRORS / f"_rows-shard-{shard}.parquet", table)


def _write_empty_part(output: Path, spec: LabelSpec) -> None:
    """Every row was bad: a part without rows still tells readers the schema."""
    tasks = [Task(name, labels) for name, labels in spec.tasks]
    fields = label_fields(tasks, spec.embedding_size, spec.embedding)
    schema = pa.schema([pa.field(ROW_ID, pa.int64(), nullable=False), *fields])
    write_table(output / "part-empty.parquet", schema.empty_table())


def _manifest(
    ledger: Ledger, job: str, spec: LabelSpec, results: dict[str, dict[str, Any]]
) -> dict[str, Any]:
    output = Path(spec.output)
    snapshot = ledger.snapshot(job)
    parts = [{"shard": shard, **results[shard]} for shard in sorted(results)]
    first = next(iter(sorted(output.glob("part-*.parquet"))))
    engines = sorted({(p["engine"], p["precision"]) for p in parts})
    return {
        "format": 1,
        "job": job,
        "state": str(JobState.PARTIAL if ledger.poisoned(job) else JobState.DONE),
        "rows": {
            "total": snapshot.rows.total,
            "labelled": sum(part["rows"] for part in parts),
            "errors": snapshot.rows.failed,
            "truncated": sum(part["truncated"] for part in parts),
        },
        "tokens": sum(part["tokens"] for part in parts),
        "inputs": [file.model_dump(exclude={"version"}) for file in spec.inputs],
        "text_column": spec.text_column,
        "model": {
            "name": spec.model,
            "sha256": spec.model_sha256,
            "backbone_sha256": spec.backbone_sha256,
            "tasks": {name: list(labels) for name, labels in spec.tasks},
        },
        "embedding": spec.embedding,
        "engines": [{"engine": engine, "precision": precision} for engine, precision in engines],
        "schema": describe_schema(pq.read_schema(first)),
        "parts": parts,
        "errors": [
            {
                "file": f"{ERRORS}/{path.name}",
                "rows": pq.read_metadata(path).num_rows,
                "sha256": file_sha256(path),
            }
            for path in sorted((output / ERRORS).glob("*.parquet"))
        ],
        "attempts": {
            outcome: sum(1 for a in ledger.attempts(job) if a["outcome"] == outcome)
            for outcome in ("done", "failed", "lost", "released")
        },
        "created": _iso(snapshot.created_s),
        "finished": _iso(time.time()),
        "seconds": round(time.time() - snapshot.created_s, 3),
        "software": {
            "python": platform.python_version(),
            **{name: version(name) for name in ("mtl-batch", "pyarrow", "torch", "transformers")},
        },
    }


def _iso(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
