"""A review sheet: rows to check, as a page for a browser, as csv, or for Label Studio."""

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jobs.output.manifest import Manifest
from jobs.output.targets import check_file_target, check_page_target, in_one_line
from jobs.review import label_studio
from jobs.review.draw import SheetRow
from jobs.review.reviewed import OUTPUT, PART, TEXT, WEIGHT
from mtl_core import pages
from mtl_core.errors import OutputError
from mtl_core.files import write_text
from mtl_core.storage.parquet import ROW_ID

GIVEN = "{task}_given"
"""Column of the label that the output has, where the sheet shows it."""


FORMATS = {"html": ".html", "csv": ".csv", "label-studio": ".json"}
"""How a file's name ends, by the format of the sheet."""


def check_sheet(target: Path, form: str | None, *, overwrite: bool) -> None:
    """Refuse a sheet that could not be written, before rows are drawn.

    Args:
        form: one of FORMATS; None: as the name says.
        overwrite: replace a file that is there, also where it is no page of ours.
    Raises:
        OutputError: the name ends otherwise, or a file is there.
    """
    ends = list(FORMATS.values()) if form is None else [FORMATS[form]]
    if target.suffix not in ends:
        of = f"{form} sheet" if form else "sheet"
        raise OutputError(f"{target}: the name of a {of} ends in {' or '.join(ends)}")
    check = check_page_target if target.suffix == ".html" else check_file_target
    check(target, overwrite=overwrite)
    if target.suffix == ".json":
        check_file_target(interface_of(target), overwrite=overwrite)


def interface_of(target: Path) -> Path:
    """The file beside a Label Studio sheet that holds its labelling interface."""
    return target.with_suffix(".xml")


@dataclass(frozen=True)
class Sheet:
    """What a sheet is made of."""

    output: str
    """Path or address of the output; what is checked is trained on from there."""
    manifest: Manifest
    tasks: Sequence[str]
    """Those to check."""
    rows: Sequence[SheetRow]
    show_labels: bool
    """Also write what the output says; a person who sees it agrees too easily."""


def write_sheet(target: Path, sheet: Sheet) -> None:
    """Write a sheet as the target's name says, over what is there.

    Args:
        target: as :func:`check_sheet` lets it pass.
    Raises:
        OutputError: it cannot be written.
    """
    make = {".html": _as_page, ".csv": _as_csv, ".json": _as_label_studio}[target.suffix]
    with in_one_line(target):
        write_text(target, make(sheet))
        if target.suffix == ".json":
            labels = {task: sheet.manifest.model.tasks[task] for task in sheet.tasks}
            write_text(interface_of(target), label_studio.interface(labels))


def _as_csv(sheet: Sheet) -> str:
    """As a spreadsheet opens it: a byte-order mark tells it that the text is UTF-8."""
    given = [GIVEN.format(task=task) for task in sheet.tasks] if sheet.show_labels else []
    stream = io.StringIO()
    writer = csv.writer(stream)
    writer.writerow([ROW_ID, *sheet.tasks, *given, TEXT, PART, WEIGHT, OUTPUT])
    empty = [""] * len(sheet.tasks)
    for row in sheet.rows:
        labels = [row.labels[task] or "" for task in sheet.tasks] if sheet.show_labels else []
        weight = "" if row.weight is None else f"{row.weight:.6g}"
        writer.writerow([row.row_id, *empty, *labels, row.text, row.part, weight, sheet.output])
    return "\ufeff" + stream.getvalue()


def _as_label_studio(sheet: Sheet) -> str:
    entries: list[dict[str, object]] = []
    for row in sheet.rows:
        data = {TEXT: row.text, ROW_ID: row.row_id, PART: row.part, OUTPUT: sheet.output}
        entry: dict[str, object] = {
            "data": data if row.weight is None else {**data, WEIGHT: row.weight}
        }
        if sheet.show_labels:
            labels = {task: row.labels[task] for task in sheet.tasks}
            entry["predictions"] = [label_studio.prediction(sheet.manifest.model.name, labels)]
        entries.append(entry)
    return json.dumps(entries, ensure_ascii=False, indent=1) + "\n"


def _as_page(sheet: Sheet) -> str:
    manifest = sheet.manifest
    return pages.render(
        "jobs.review",
        "sheet.html",
        job=manifest.job,
        model=manifest.model.name,
        show_labels=sheet.show_labels,
        sheet={
            "job": manifest.job,
            "output": sheet.output,
            "tasks": {task: list(manifest.model.tasks[task]) for task in sheet.tasks},
            "rows": [
                {
                    "row_id": row.row_id,
                    "text": row.text,
                    "part": row.part,
                    "weight": row.weight,
                    "given": {task: row.labels[task] for task in sheet.tasks},
                }
                for row in sheet.rows
            ],
        },
    )
