"""What ``mtl label`` and ``mtl retry`` print at a job's end."""

import shlex
import shutil
from pathlib import Path
from typing import Any

import click

from jobs.cli.shared.appended import appended_json, appended_line
from jobs.cli.shared.common import print_json
from jobs.cli.shared.plain import count, plain
from jobs.cli.shared.unlike import unlike_lines
from jobs.label.request import LabelJob
from jobs.ledger.lifecycle import JobState
from jobs.ledger.snapshot import Snapshot
from jobs.output.layout import read_manifest
from jobs.output.manifest import Manifest
from mtl_core.errors import InputError, JobError
from mtl_core.storage.folder import Folder
from mtl_core.storage.place import Place


def finish_label(job: LabelJob, snapshot: Snapshot, *, as_json: bool) -> None:
    """Print what a job that came to rest has made.

    Raises:
        JobError: it did not end ``done``.
    """
    if snapshot.state not in (JobState.DONE, JobState.PARTIAL):
        raise JobError(f"{job.id} {snapshot.state}: {snapshot.reason or 'no reason given'}")
    print_result(job, as_json)


def print_result(job: LabelJob, as_json: bool) -> None:
    """Print what a finished job has made.

    Raises:
        JobError: it ended ``partial``.
        InputError: no row at all could be labelled.
    """
    manifest = read_manifest(job.target, job.spec.generation if job.spec.appends else None)
    if as_json:
        print_json(_summary(job, manifest))
    else:
        _print_summary(job, manifest)
    if manifest.state == JobState.PARTIAL:
        raise JobError(
            f"{job.id} ended partial; its rows that failed can be tried again: mtl retry {job.id}"
        )
    if not manifest.rows.labelled:
        raise InputError(f"no row could be labelled; {_way_out(_reasons(job.target, manifest))}")


def _way_out(reasons: str) -> str:
    """What may help where no row could be labelled."""
    if "fields, the header has" in reasons:
        return "see that the first line of each file names its columns, and which delimiter it has"
    if " × not " in reasons and "JSON" not in reasons:
        return "the files may be in another encoding: name it by --encoding (cp1252, koi8-r, …)"
    return f"see the reasons in errors: {reasons}"


def _print_summary(job: LabelJob, manifest: Manifest) -> None:
    rows = manifest.rows
    click.echo(
        f"{rows.labelled:,} of {rows.total:,} rows labelled, {rows.errors:,} in errors, "
        f"{rows.truncated:,} truncated; {count(len(manifest.parts), 'part')}, "
        f"{manifest.seconds:,.1f} s"
    )
    if rows.duplicates or rows.cached:
        click.echo(
            f"not encoded again: {rows.duplicates:,} duplicates within a shard, "
            f"{rows.cached:,} texts from the cache"
        )
    for line in unlike_lines(rows.labelled, rows.untypical):
        click.echo(line)
    if job.spec.appends:
        click.echo(appended_line(job.spec))
    folder = shlex.quote(_near_path(job.target))
    click.echo(f"output: {job.target}")
    click.echo(f"look:   mtl show {folder}, or mtl report {folder} -o report.html")
    click.echo(f"query:  {_query(_near_path(job.target))}")
    if rows.errors:
        click.echo(f"errors: {job.target}/errors ({_reasons(job.target, manifest)})")


def _query(folder: str) -> str:
    if shutil.which("duckdb"):
        return f"duckdb -c \"FROM '{folder}/*.parquet' LIMIT 10\""
    return f"python -c \"import pandas; print(pandas.read_parquet('{folder}'))\""


def _near_path(output: Place) -> str:
    """The output's path as one would type it in the current folder."""
    here = Path.cwd()
    if isinstance(output, Folder) and output.path.is_relative_to(here):
        return str(output.path.relative_to(here))
    return str(output)


def _reasons(output: Place, manifest: Manifest) -> str:
    """The three most frequent reasons, with where the first of each is."""
    import pyarrow.parquet as pq

    counts: dict[str, int] = {}
    where: dict[str, str] = {}
    for entry in manifest.errors:
        with output.reading(entry.file) as path:
            table = pq.read_table(path, columns=["file", "row", "reason"])
        for file, row, reason in zip(
            *(column.to_pylist() for column in table.columns), strict=True
        ):
            counts[reason] = counts.get(reason, 0) + 1
            where.setdefault(reason, f"{Path(file).name}:{row}" if file else "")
    top = sorted(counts, key=lambda reason: -counts[reason])[:3]
    more = f"; {len(counts) - 3} more reasons" if len(counts) > 3 else ""
    return plain("; ".join(f"{counts[r]:,} × {r}, first {where[r]}" for r in top)) + more


def _summary(job: LabelJob, manifest: Manifest) -> dict[str, Any]:
    return {
        "id": job.id,
        "state": manifest.state,
        "output": str(job.target),
        "rows": manifest.rows.model_dump(),
        "parts": len(manifest.parts),
        "seconds": manifest.seconds,
        **(appended_json(job.spec) if job.spec.appends else {}),
    }
