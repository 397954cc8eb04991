"""A review sheet: rows to check, as csv for a spreadsheet or as a page for a browser."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from jobs.output.manifest import Manifest
from jobs.output.targets import check_file_target, check_page_target, in_one_line
from jobs.review.draw import SheetRow
from jobs.review.reviewed import PART, WEIGHT
from mtl_core import pages
from mtl_core.errors import OutputError
from mtl_core.files import write_text
from mtl_core.storage.parquet import ROW_ID

GIVEN = "{task}_given"
"""Column of the label that the output has, where the sheet shows it."""


def write_sheet(
    target: Path,
    manifest: Manifest,
    tasks: Sequence[str],
    rows: Sequence[SheetRow],
    *,
    show_labels: bool,
    overwrite: bool,
) -> None:
    """Write a sheet as the target's name says: ``.csv`` or ``.html``.

    Args:
        tasks: those to check.
        show_labels: also write what the output says; a person who sees it agrees too easily.
        overwrite: replace a file that is there, also where it is no page of ours.
    Raises:
        OutputError: the name ends otherwise, the file is there, or it cannot be written.
    """
    if target.suffix == ".csv":
        check_file_target(target, overwrite=overwrite)
        text = _as_csv(manifest, tasks, rows, show_labels)
    elif target.suffix == ".html":
        check_page_target(target, overwrite=overwrite)
        text = _as_page(manifest, tasks, rows, show_labels)
    else:
        raise OutputError(f"{target}: a sheet's name ends in .csv or .html")
    with in_one_line(target):
        write_text(target, text)


def _as_csv(
    manifest: Manifest, tasks: Sequence[str], rows: Sequence[SheetRow], show_labels: bool
) -> str:
    """As a spreadsheet opens it: a byte-order mark tells it that the text is UTF-8."""
    given = [GIVEN.format(task=task) for task in tasks] if show_labels else []
    stream = io.StringIO()
    writer = csv.writer(stream)
    writer.writerow([ROW_ID, *tasks, *given, manifest.text_column, PART, WEIGHT])
    for row in rows:
        labels = [row.labels[task] or "" for task in tasks] if show_labels else []
        weight = "" if row.weight is None else f"{row.weight:.6g}"
        writer.writerow([row.row_id, *("" for _ in tasks), *labels, row.text, row.part, weight])
    return "\ufeff" + stream.getvalue()


def _as_page(
    manifest: Manifest, tasks: Sequence[str], rows: Sequence[SheetRow], show_labels: bool
) -> str:
    return pages.render(
        "jobs.review",
        "sheet.html",
        job=manifest.job,
        model=manifest.model.name,
        show_labels=show_labels,
        sheet={
            "job": manifest.job,
            "tasks": {task: list(manifest.model.tasks[task]) for task in tasks},
            "rows": [
                {
                    "row_id": row.row_id,
                    "text": row.text,
                    "part": row.part,
                    "weight": row.weight,
                    "given": {task: row.labels[task] for task in tasks},
                }
                for row in rows
            ],
        },
    )
