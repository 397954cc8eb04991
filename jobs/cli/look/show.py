"""``mtl show``."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import click
from rich.table import Table

from jobs.cli.shared.common import (
    finished_argument,
    generation_option,
    json_option,
    output_folder,
    print_json,
)
from jobs.cli.shared.plain import cell, print_table
from jobs.output.layout import read_manifest
from jobs.output.manifest import Manifest
from mtl_core.config import UNTYPICAL_BELOW
from mtl_core.storage.place import Place
from mtl_core.suggest import near_hint

if TYPE_CHECKING:
    from rich.text import Text


@click.command()
@finished_argument
@click.option("-n", "--rows", type=click.IntRange(1), default=10, show_default=True, metavar="N")
@click.option("--label", metavar="LABEL", help="Only rows that got this label, of any task.")
@generation_option
@json_option
def show(job: str, rows: int, label: str | None, generation: int | None, as_json: bool) -> None:
    """Show the first labelled rows of a finished output.

    \b
    Examples:
      mtl show out/
      mtl show out/ --label Sports -n 20
    """
    folder = output_folder(job)
    manifest = read_manifest(folder, generation)
    tasks = manifest.model.tasks
    known = [name for labels in tasks.values() for name in labels]
    if label is not None and label not in known:
        raise click.UsageError(f"no label '{label}'{near_hint(label, known)}")
    found = _rows(folder, manifest, rows, label)
    if as_json:
        print_json(found)
        return
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("row_id", justify="right")
    for name in (*tasks, "text"):
        table.add_column(cell(name), overflow="fold")
    for row in found:
        labels = [_label(row, task, manifest.has_typicality) for task in tasks]
        table.add_row(cell(row["row_id"]), *labels, cell(row[manifest.text_column]))
    print_table(table, width=160)
    if manifest.has_typicality and found:
        click.echo(f"behind a label: its score, the row's typicality; dim below {UNTYPICAL_BELOW}")


def _label(row: dict[str, Any], task: str, has_typicality: bool) -> "Text":
    """A task's label, score and typicality; dim where the row is unlike those trained on."""
    label = f"{row[task] or '(none)'} {row[f'{task}_score']:.2f}"
    if not has_typicality:
        return cell(label)
    typical = row[f"{task}_typicality"]
    return cell(f"{label} {typical:.2f}", "dim" if typical < UNTYPICAL_BELOW else "")


def _rows(folder: Place, manifest: Manifest, most: int, label: str | None) -> list[Any]:
    import pyarrow.parquet as pq

    tasks = manifest.model.tasks
    columns = ["row_id", *(n for task in tasks for n in (task, f"{task}_score"))]
    columns += [f"{task}_typicality" for task in tasks] if manifest.has_typicality else []
    found: list[Any] = []
    for part in manifest.parts:
        with folder.reading(part.part) as path, pq.ParquetFile(path) as file:
            for batch in file.iter_batches(1024, columns=[*columns, manifest.text_column]):
                wanted = (r for r in batch.to_pylist() if not label or label in _labels(r, tasks))
                found += [row for row, _ in zip(wanted, range(most - len(found)), strict=False)]
                if len(found) == most:
                    return found
    return found


def _labels(row: dict[str, Any], tasks: Iterable[str]) -> list[str]:
    return [row[task] for task in tasks]
