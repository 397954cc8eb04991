"""From what the user typed to a checked list of input files and one set of columns."""

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from jobs.readers import READERS, Chunk, is_text
from jobs.specs import InputFile
from mtl_core.errors import InputError
from mtl_core.files import file_sha256

Format = Literal["txt", "csv", "tsv", "jsonl", "parquet"]
SUFFIXES: dict[str, Format] = {
    ".txt": "txt",
    ".csv": "csv",
    ".tsv": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
}
# Without --text-column the first of these that is there is taken, else the only text column.
USUAL_TEXT_COLUMNS = ("text", "sentence")


@dataclass(frozen=True)
class Source:
    """Checked input: files, the column to label, and the columns carried through."""

    files: tuple[InputFile, ...]
    text_column: str
    """The column to label, as the input names it."""
    fields: tuple[pa.Field, ...]
    """All columns of all files, as they will be written, the text column among them."""
    taken: frozenset[str]
    """Names that the output needs for itself."""

    def written_name(self, name: str) -> str:
        """The name under which a user's column is written."""
        return f"input_{name}" if name in self.taken else name


def list_files(arguments: Iterable[str]) -> list[Path]:
    """Expand files and folders into files, in the order given, folders sorted by name.

    Raises:
        InputError: one is missing, or a folder holds no file of a known format.
    """
    found: list[Path] = []
    for argument in arguments:
        path = Path(argument).expanduser()
        if path.is_dir():
            inside = sorted(p for p in path.rglob("*") if p.is_file() and _is_data(p, path))
            if not inside:
                raise InputError(f"{argument}: the folder holds no {_known()} file")
            found += inside
        elif path.is_file():
            found.append(path)
        elif path.exists():
            raise InputError(f"{argument}: neither a file nor a folder")
        else:
            near = get_close_matches(path.name, _names_in(path.parent), n=1)
            hint = f"; did you mean '{path.parent / near[0]}'?" if near else ""
            raise InputError(f"{argument}: no such file{hint}")
    return found


def _names_in(folder: Path) -> list[str]:
    return os.listdir(folder) if folder.is_dir() else []


def _is_data(path: Path, root: Path) -> bool:
    hidden = any(part[0] in "._" for part in path.relative_to(root).parts)
    return not hidden and format_of(path) is not None


def _known() -> str:
    return "/".join(get_args(Format))


def format_of(path: Path) -> tuple[Format, Literal["none", "gzip"]] | None:
    """Format and compression by the file's name, or None when it tells neither."""
    gzipped = path.suffix.lower() == ".gz"
    stem = path.with_suffix("") if gzipped else path
    known = SUFFIXES.get(stem.suffix.lower())
    if known is None:
        return None
    return known, "gzip" if gzipped else "none"


def fingerprint(path: Path) -> InputFile:
    """Describe one input file; reads all of it once for its checksum.

    Raises:
        InputError: empty, unreadable, or of no known format.
    """
    kind = format_of(path)
    if kind is None:
        raise InputError(
            f"{path}: its name ends in no known format; name it .{_known().replace('/', ', .')}, "
            "each also with .gz"
        )
    try:
        size = path.stat().st_size
        if size == 0:
            raise InputError(f"{path}: the file is empty")
        with path.open("rb") as stream:
            start = stream.read(4)
        sha256 = file_sha256(path)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    if start[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise InputError(f"{path}: looks like UTF-16; convert it: iconv -f UTF-16 -t UTF-8")
    file_format, compression = kind
    return InputFile(
        path=str(path.resolve()),
        format=file_format,
        compression=compression,
        bytes=size,
        sha256=sha256,
    )


def open_source(files: Sequence[InputFile], text_column: str | None, taken: set[str]) -> Source:
    """Read the columns of all files and settle which one holds the text.

    Args:
        text_column: as the user gave it; None to find it.
        taken: names that the output needs; a user's column of such a name is carried through
            as ``input_<name>``.
    Raises:
        InputError: unreadable file, no such column, no text column, or files that disagree.
    """
    columns: dict[str, tuple[pa.DataType, str]] = {}
    for file in files:
        fields = READERS[file.format].fields(file)
        if text_column is not None:
            _require_text(file, fields, text_column)
        for field in fields:
            known, where = columns.setdefault(field.name, (field.type, file.path))
            if known != field.type:
                raise InputError(
                    f"{file.path}: column '{field.name}' is {field.type}, "
                    f"but {known} in {where}; label them in separate jobs"
                )
    chosen = text_column or _find_text_column(files[0].path, columns)
    for file in files:
        _require_text(file, READERS[file.format].fields(file), chosen)
    source = Source(tuple(files), chosen, (), frozenset(taken))
    written = {source.written_name(name): kind for name, (kind, _) in columns.items()}
    if len(written) < len(columns):
        raise InputError(
            f"{files[0].path}: a column cannot be carried through under the name input_…, because "
            f"there is one already; rename one of: {', '.join(set(columns) & taken)}"
        )
    return replace(source, fields=tuple(pa.field(n, kind) for n, kind in written.items()))


def _find_text_column(path: str, columns: dict[str, tuple[pa.DataType, str]]) -> str:
    texts = [name for name, (kind, _) in columns.items() if is_text(kind)]
    for usual in USUAL_TEXT_COLUMNS:
        if usual in texts:
            return usual
    if len(texts) == 1:
        return texts[0]
    if not texts:
        raise InputError(f"{path}: no text column among: {', '.join(columns)}")
    raise InputError(
        f"{path}: several columns could hold the text ({', '.join(texts)}); "
        "say which by --text-column"
    )


def _require_text(file: InputFile, fields: Sequence[pa.Field], column: str) -> None:
    types = {field.name: field.type for field in fields}
    if column not in types:
        near = get_close_matches(column, types, n=1)
        hint = f"did you mean '{near[0]}'? " if near else ""
        raise InputError(f"{file.path}: no column '{column}'; {hint}it has: {', '.join(types)}")
    if not is_text(types[column]):
        raise InputError(f"{file.path}: column '{column}' is {types[column]}, not text")


@dataclass(frozen=True)
class NumberedChunk:
    """A chunk of one file with its rows' ids over the whole input."""

    file: InputFile
    chunk: Chunk
    row_ids: NDArray[np.int64]
    """Of the good rows, int64 [N]."""
    bad_row_ids: NDArray[np.int64]
    """Of the bad rows, int64 [M]."""


def read_source(source: Source, chunk_rows: int = 4096) -> Iterator[NumberedChunk]:
    """Read all files as a stream, in order; ``row_id`` counts rows from 0 over all files.

    Bad rows have ids too, so that labelled and bad rows together hold every id once.

    Raises:
        InputError: a file is damaged in a way that leaves no rows to go on with.
    """
    offset = 0
    for file in source.files:
        rows = 0
        for chunk in READERS[file.format].read(file, source.text_column, chunk_rows):
            good = np.asarray(chunk.rows, dtype=np.int64) + (offset - 1)
            bad = np.asarray([row.row for row in chunk.bad], dtype=np.int64) + (offset - 1)
            rows += len(good) + len(bad)
            yield NumberedChunk(file, chunk, good, bad)
        offset += rows
