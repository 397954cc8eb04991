"""The record of an output's search index, ``OUT/_index/index.json``: files, and what they are of.

The index itself is made and read by :mod:`jobs.vectors`; what other commands must know of it is
here: which files belong to it, and whether they are whole and of the parts that are there.
"""

import json
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from jobs.output.layout import INDEX
from jobs.output.manifest import Manifest
from mtl_core.errors import StoreError
from mtl_core.files import file_sha256
from mtl_core.storage.folder import Folder
from mtl_core.storage.place import Place

RECORD = f"{INDEX}/index.json"
AGAIN = "make it anew by `mtl index`"


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="allow")


class IndexedPart(_Record):
    """A part as it was indexed."""

    part: str
    rows: int
    sha256: str
    modified_ns: int = 0
    """When its file was modified last, nanoseconds since the epoch; 0: it lies in a store."""


class IndexFile(_Record):
    """A file of the index: some rows' codes."""

    file: str
    """Its name within the output."""
    rows: int
    bytes: int
    sha256: str


class IndexRecord(_Record):
    """The whole record."""

    format: int = 1
    kind: str
    """As faiss' ``index_factory`` reads it."""
    probed: int
    """Lists that a search reads in each file."""
    parts: tuple[IndexedPart, ...]
    files: tuple[IndexFile, ...]
    software: dict[str, str] = {}

    def as_json(self) -> dict[str, Any]:
        """The content of ``index.json``."""
        return self.model_dump(mode="json")


def read_index(output: Place) -> IndexRecord | None:
    """The record of an output's index; None: there is none, or none that can be read."""
    try:
        return IndexRecord.model_validate(json.loads(output.read_text(RECORD)))
    except StoreError:
        raise
    except (OSError, ValueError, ValidationError):
        return None


def modified_ns(output: Place, name: str) -> int:
    """When a file was modified last, nanoseconds since the epoch; 0: it lies in a store."""
    return (output.path / name).stat().st_mtime_ns if isinstance(output, Folder) else 0


def misfit(output: Place, manifest: Manifest, record: IndexRecord) -> str:
    """Why an index cannot be used; empty if it can.

    A part whose file has another date than when it was indexed is read, and its checksum compared.
    """
    listed = [(part.part, part.rows, part.sha256) for part in record.parts]
    there = [(part.part, part.rows, part.sha256) for part in manifest.parts]
    if listed != there:
        appended = listed == there[: len(listed)]
        return "rows were appended since" if appended else "it was made of other parts"
    try:
        for part in record.parts:
            if modified_ns(output, part.part) == part.modified_ns:
                continue
            with output.reading(part.part) as path:
                if file_sha256(path) != part.sha256:
                    return f"{part.part} has changed since"
        for file in record.files:
            with output.reading(file.file) as path:
                if path.stat().st_size != file.bytes:
                    return f"{file.file} has changed"
    except FileNotFoundError as error:
        return f"{error.filename} is missing"
    return ""


def index_problems(output: Place, manifest: Manifest) -> Iterator[str]:
    """What is wrong with an output's index, a line each; nothing where there is none.

    That it is of the generations before the last is not wrong: a search sees that, and says so.
    """
    if not output.has(RECORD):
        return
    record = read_index(output)
    if record is None:
        yield f"{RECORD} cannot be read; {AGAIN}"
        return
    listed = [(part.part, part.sha256) for part in record.parts]
    if listed != [(part.part, part.sha256) for part in manifest.parts][: len(listed)]:
        yield f"{RECORD} names other parts than the manifest; {AGAIN}"
    for file in record.files:
        try:
            with output.reading(file.file) as path:
                if file_sha256(path) != file.sha256:
                    yield f"{file.file} has changed (checksum differs); {AGAIN}"
        except FileNotFoundError:
            yield f"{file.file} is missing; {AGAIN}"
