"""Table formats whose folders keep files of removed rows: Delta is read, others are refused."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from mtl_core.errors import InputError

LOG = "_delta_log"
Partition = tuple[tuple[str, str | None], ...]


def refuse_other_tables(folder: Path, files: Sequence[str], folders: Sequence[str]) -> None:
    """Refuse a folder of an Iceberg or Hudi table: not all of its files hold rows of the table.

    Args:
        files: names of the files right in the folder.
        folders: names of the folders right in it.
    Raises:
        InputError: it is part of such a table.
    """
    kind = "Hudi" if ".hoodie" in folders else ""
    if folder.name == "metadata" and any(name.endswith(".metadata.json") for name in files):
        kind = "Iceberg"
    if kind:
        raise InputError(
            f"{folder}: part of {'an' if kind == 'Iceberg' else 'a'} {kind} table, whose files "
            "hold removed rows, too; write its rows to a folder of Parquet first"
        )


def delta_files(table: Path) -> list[tuple[Path, Partition]]:
    """The files that a Delta table holds now, with their columns from the log, sorted by path.

    The log is replayed from its first entry. Where that is not enough to know the rows (a log that
    was cleaned up, rows deleted within a file, renamed columns), the table is refused.

    Raises:
        InputError: the log cannot be read, or is not enough to know the rows.
    """
    entries = sorted(path for path in (table / LOG).glob("*.json") if path.stem.isdigit())
    if [int(path.stem) for path in entries] != list(range(len(entries))) or not entries:
        raise _refused(table, "the beginning of its log is missing")
    files: dict[str, Partition] = {}
    for entry in entries:
        try:
            lines = entry.read_text(encoding="utf-8").splitlines()
            actions: list[dict[str, Any]] = [json.loads(line) for line in lines if line.strip()]
        except (OSError, ValueError) as error:
            raise _refused(table, f"{entry.name} cannot be read ({error})") from error
        for action in actions:
            _apply(action, files, table)
    found = [(table / unquote(path), partition) for path, partition in files.items()]
    for path, _ in found:
        if not path.is_file():
            raise _refused(table, f"its file {path.name} is missing")
    return sorted(found)


def _apply(action: dict[str, Any], files: dict[str, Partition], table: Path) -> None:
    configuration = action.get("metaData", {}).get("configuration", {})
    if configuration.get("delta.columnMapping.mode", "none") != "none":
        raise _refused(table, "its columns are renamed by its log")
    for name in ("remove", "add"):
        if name not in action:
            continue
        what = action[name]
        if what.get("deletionVector") and name == "add":
            raise _refused(table, "rows are deleted within its files")
        if name == "remove":
            files.pop(what["path"], None)
        else:
            values = what.get("partitionValues") or {}
            files[what["path"]] = tuple((key, value or None) for key, value in values.items())


def _refused(table: Path, why: str) -> InputError:
    return InputError(
        f"{table}: a Delta table of which {why}; write its rows to a folder of Parquet first, for "
        f"example by deltalake: DeltaTable('{table}').to_pyarrow_table()"
    )
