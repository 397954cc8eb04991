"""A folder for each label of a task, as ``TARGET/topic=Sports/part-0.parquet``.

``TARGET/_collected.json`` lists every file written, with its checksum. By that list a folder is
known as ours. A folder is replaced only if it holds the files of its list, unchanged, and nothing
else. What is removed then is those files, one by one, never a folder with all it holds.
"""

import json
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from jobs.output.targets import check_outside_outputs
from mtl_core.errors import OutputError
from mtl_core.files import file_sha256, temporary_beside, write_json

LISTING = "_collected.json"
NO_LABEL = "__HIVE_DEFAULT_PARTITION__"
"""The value in a folder's name that readers of such folders take for null."""
FILE_NAME = "part-0.parquet"


def check_folder_target(target: Path, *, overwrite: bool) -> None:
    """Refuse a target that holds anything but what this module wrote.

    Raises:
        OutputError: it lies in a job's output, is a file, exists and ``overwrite`` is not given,
            or holds something that its own list does not name.
    """
    check_outside_outputs(target)
    if not target.exists() and not target.is_symlink():
        return
    if not target.is_dir() or target.is_symlink():
        raise OutputError(f"{target} is no folder; give a new folder by -o")
    there = sorted(_files(target))
    if not there and not any(target.iterdir()):
        return
    if not overwrite:
        raise OutputError(f"{target} exists; add --overwrite to replace it, or give a new folder")
    listed = _listed(target)
    for name in there:
        if name != LISTING and listed.get(name) != file_sha256(target / name):
            what = "has changed since" if name in listed else "was not written by"
            raise OutputError(
                f"{target / name} {what} `mtl collect`; move it away, or give a new folder by -o"
            )
    _check_folders(target, {str(Path(name).parent) for name in listed})


def _files(folder: Path) -> Iterator[str]:
    """Names of all files and links below a folder, hidden ones too."""
    for path in folder.rglob("*"):
        if path.is_symlink() or not path.is_dir():
            yield str(path.relative_to(folder))


def _check_folders(target: Path, known: set[str]) -> None:
    for path in target.rglob("*"):
        if path.is_dir() and str(path.relative_to(target)) not in known:
            raise OutputError(
                f"{path} was not made by `mtl collect`; move it away, or give a new folder by -o"
            )


def _listed(target: Path) -> dict[str, str]:
    """The files that a folder's own list names, with their checksums."""
    try:
        content = json.loads((target / LISTING).read_text(encoding="utf-8"))
        return {str(file["file"]): str(file["sha256"]) for file in content["files"]}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise OutputError(
            f"{target} holds no readable {LISTING}, by which `mtl collect` knows a folder as its "
            "own; move it away, or give a new folder by -o"
        ) from error


@dataclass
class LabelFolders:
    """Writes tables into a folder for each label; use as a context.

    The target appears, or is replaced, only when the context ends without an exception.
    """

    target: Path
    task: str
    job: str
    _folder: Path = field(init=False)
    _writers: dict[str, pq.ParquetWriter] = field(default_factory=dict)
    _names: list[str] = field(default_factory=list)
    _stack: ExitStack = field(default_factory=ExitStack)

    def __enter__(self) -> "LabelFolders":
        self.target.parent.mkdir(parents=True, exist_ok=True)
        self._folder = temporary_beside(self.target.absolute())
        self._folder.mkdir()
        return self

    def write_table(self, table: pa.Table) -> None:
        """Append rows, each to the folder of its label."""
        labels = pc.fill_null(table.column(self.task).cast(pa.string()), NO_LABEL)
        rows = table.drop_columns([self.task])
        for label in pc.unique(labels).to_pylist():
            chosen = rows.filter(pc.equal(labels, label))
            self._writer(label, rows.schema).write_table(chosen)

    def _writer(self, label: str, schema: pa.Schema) -> pq.ParquetWriter:
        if label not in self._writers:
            name = f"{self.task}={quote(label, safe='')}/{FILE_NAME}"
            self._names.append(name)
            path = self._folder / name
            path.parent.mkdir()
            stream = self._stack.enter_context(path.open("xb"))
            writer = pq.ParquetWriter(stream, schema, compression="zstd")
            self._writers[label] = self._stack.enter_context(writer)
        return self._writers[label]

    def __exit__(self, kind: type[BaseException] | None, *_: Any) -> None:
        try:
            if kind is not None:
                with suppress(OSError, pa.ArrowException):
                    self._stack.close()
                return
            self._stack.close()
            self._list()
            self._take_place()
        finally:
            _remove(self._folder, self._names)

    def _list(self) -> None:
        files = [
            {"file": name, "sha256": file_sha256(self._folder / name)}
            for name in sorted(self._names)
        ]
        write_json(self._folder / LISTING, {"job": self.job, "task": self.task, "files": files})

    def _take_place(self) -> None:
        """Rename the new folder to the target; what was there is removed file by file."""
        if not self.target.exists():
            self._folder.rename(self.target)
            return
        old = temporary_beside(self.target.absolute())
        self.target.rename(old)
        try:
            self._folder.rename(self.target)
        except OSError:
            old.rename(self.target)
            raise
        _remove(old, _listed(old) if (old / LISTING).is_file() else ())
        if old.exists():
            raise OutputError(f"{old} keeps what came into {self.target} meanwhile; look at it")


def _remove(folder: Path, names: Iterable[str]) -> None:
    """Remove the named files and our list, and then the folders that have become empty."""
    names = list(names)
    for name in (*names, LISTING):
        (folder / name).unlink(missing_ok=True)
    for name in names:
        with suppress(OSError):
            (folder / name).parent.rmdir()
    with suppress(OSError):
        folder.rmdir()
