"""Input files checked and described, and one set of columns over all of them."""

import hashlib
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from jobs.locate import SUFFIXES, Located, format_of
from jobs.readers import DAMAGE, READERS, Chunk, TextColumn, inner_fields, is_text
from jobs.sniff import (
    FORMATS,
    compression_of,
    delimiter_of,
    encoding_of,
    format_of_content,
    sample_of,
)
from jobs.specs import Format, InputFile
from mtl_core.errors import InputError
from mtl_core.files import file_sha256
from mtl_core.near import near_hint

# Without --text-column the first of these that is there is taken, else the only text column.
USUAL_TEXT_COLUMNS = ("text", "sentence")


@dataclass(frozen=True)
class Source:
    """Checked input: files, the column to label, and the columns carried through."""

    files: tuple[InputFile, ...]
    text: TextColumn
    fields: tuple[pa.Field, ...]
    """All columns of all files, as they will be written, the text column among them."""
    taken: frozenset[str]
    """Names that the output needs for itself."""
    limit: int | None = None
    """Read this many of the first rows only."""

    @property
    def text_columns(self) -> tuple[str, ...]:
        """The text columns, as a user would name them."""
        return tuple(".".join(path) for path in self.text.paths)

    @property
    def text_column(self) -> str:
        """The output's column that holds the text."""
        return self.written_name(self.text.name)

    def written_name(self, name: str) -> str:
        """The name under which a user's column is written."""
        return f"input_{name}" if name in self.taken else name


def fingerprint(
    located: Located, input_format: Format | None = None, *, columned: bool = False
) -> InputFile:
    """Describe one input file; reads all of it once for its checksum.

    Args:
        input_format: of a file whose name does not tell; else found from its content, if it came
            without a name.
        columned: it must have columns, since one was named.
    Raises:
        InputError: empty, unreadable, or of no known format.
    """
    path = located.path
    try:
        if path.stat().st_size == 0:
            raise InputError(f"{located.name}: the file is empty")
        compression = compression_of(path)
        sample = sample_of(path, compression)
        sha256 = file_sha256(path)
    except DAMAGE as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{located.name}: cannot be read ({reason})") from error
    kind = input_format or format_of(path)
    if kind is None:
        if not located.origin:
            raise InputError(
                f"{path}: its name ends in no known format; name it {', '.join(SUFFIXES)} "
                f"or give --input-format {'|'.join(FORMATS)}"
            )
        kind = format_of_content(sample, columned=columned)
    encoding = encoding_of(sample, kind)
    delimiter = {"csv": delimiter_of(sample, encoding), "tsv": "\t"}.get(kind, ",")
    return InputFile(
        path=str(path.resolve()),
        origin=located.origin,
        format=kind,
        compression=compression,
        encoding=encoding,
        delimiter=delimiter,
        bytes=path.stat().st_size,
        sha256=sha256,
    )


def assumptions(file: InputFile) -> str:
    """What had to be guessed of how a file is written, in words; empty where nothing was."""
    guessed: list[str] = []
    if file.origin and format_of(Path(file.path)) is None:
        guessed.append(file.format)
    if file.encoding != "utf-8":
        guessed.append(f"encoded in {file.encoding}")
    if file.format == "csv" and file.delimiter != ",":
        guessed.append(
            "separated by " + ("tabs" if file.delimiter == "\t" else f"'{file.delimiter}'")
        )
    return f"{file.name}: read as {', '.join(guessed)}" if guessed else ""


def open_source(
    files: Sequence[InputFile],
    text_columns: Sequence[str],
    taken: set[str],
    limit: int | None = None,
) -> Source:
    """Read the columns of all files and settle which hold the text.

    Args:
        text_columns: as the user gave them; empty to find the one.
        taken: names that the output needs; a user's column of such a name is carried through
            as ``input_<name>``.
        limit: read this many of the first rows only.
    Raises:
        InputError: unreadable file, no such column, no text column, or files that disagree.
    """
    columns: dict[str, tuple[pa.DataType, str]] = {}
    nested: dict[str, dict[str, bool]] = {}
    text = None
    described = [(file, READERS[file.format].fields(file)) for file in files]
    for file, fields in described:
        if text_columns:
            paths = tuple(_text_path(file, fields, name) for name in text_columns)
            text = _same_everywhere(text, TextColumn(paths), file)
        for field in fields:
            nested.setdefault(field.name, {}).update(inner_fields(field))
            known, where = columns.setdefault(field.name, (field.type, file.name))
            if known != field.type:
                raise InputError(
                    f"{file.name}: column '{field.name}' is {field.type}, "
                    f"but {known} in {where}; label them in separate jobs"
                )
    if text is None:
        text = TextColumn(((_find_text_column(files[0].name, columns, nested),),))
        for file, fields in described:
            _text_path(file, fields, text.name)
    for field in text.field():
        if field.name in columns:
            raise InputError(
                f"{columns[field.name][1]}: the joined text would be column '{field.name}', but "
                "there is one of that name; rename it"
            )
        columns[field.name] = (field.type, "")
    source = Source(tuple(files), text, (), frozenset(taken), limit)
    written = {source.written_name(name): kind for name, (kind, _) in columns.items()}
    if len(written) < len(columns):
        raise InputError(
            f"{files[0].name}: a column cannot be carried through under the name input_…, because "
            f"there is one already; rename one of: {', '.join(set(columns) & taken)}"
        )
    return replace(source, fields=tuple(pa.field(n, kind) for n, kind in written.items()))


def _same_everywhere(known: TextColumn | None, own: TextColumn, file: InputFile) -> TextColumn:
    if known is not None and known != own:
        raise InputError(f"{file.name}: has columns where the other files have nested fields")
    return own


def _find_text_column(
    path: str, columns: dict[str, tuple[pa.DataType, str]], nested: dict[str, dict[str, bool]]
) -> str:
    texts = [name for name, (kind, _) in columns.items() if is_text(kind) and not nested[name]]
    for usual in USUAL_TEXT_COLUMNS:
        if usual in texts:
            return usual
    if len(texts) == 1:
        return texts[0]
    if not texts:
        inner = [f"{name}.{i}" for name in nested for i, text in nested[name].items() if text]
        hint = f"; --text-column can name a field: {', '.join(inner[:5])}" if inner else ""
        raise InputError(f"{path}: no text column among: {', '.join(columns)}{hint}")
    raise InputError(
        f"{path}: several columns could hold the text ({', '.join(texts)}); "
        f"say which by --text-column {texts[0]}"
    )


def _text_path(file: InputFile, fields: Sequence[pa.Field], name: str) -> tuple[str, ...]:
    """Where a text column is: a column of that name, else a field within one."""
    known = {field.name: field for field in fields}
    if name in known:
        inner = inner_fields(known[name])
        if inner:
            names = ", ".join(f"{name}.{i}" for i in inner)
            raise InputError(f"{file.name}: column '{name}' is not text; name a field: {names}")
        if not is_text(known[name].type):
            raise InputError(f"{file.name}: column '{name}' is {known[name].type}, not text")
        return (name,)
    first, _, rest = name.partition(".")
    if rest and first in known:
        inner = inner_fields(known[first])
        if inner and rest not in inner:
            raise InputError(
                f"{file.name}: no field '{rest}' in '{first}'{near_hint(rest, list(inner))}"
            )
        if inner and not inner[rest]:
            raise InputError(f"{file.name}: '{name}' is not text")
        # A jsonl column that holds other things, too: whether a row has the field is seen there.
        if inner or file.format == "jsonl":
            return tuple(name.split("."))
    raise InputError(f"{file.name}: no column '{name}'{near_hint(name, list(known))}")


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
        for chunk in READERS[file.format].read(file, source.text, chunk_rows):
            chunk = _first_rows(chunk, source.limit, offset)
            good = np.asarray(chunk.rows, dtype=np.int64) + (offset - 1)
            bad = np.asarray([row.row for row in chunk.bad], dtype=np.int64) + (offset - 1)
            rows += len(good) + len(bad)
            yield NumberedChunk(file, chunk, good, bad)
            if source.limit is not None and offset + rows >= source.limit:
                return
        offset += rows


def _first_rows(chunk: Chunk, limit: int | None, offset: int) -> Chunk:
    """The rows of a chunk that a limit on all rows leaves."""
    if limit is None:
        return chunk
    rows = [row for row in chunk.rows if row + offset <= limit]
    bad = [row for row in chunk.bad if row.row + offset <= limit]
    return Chunk(chunk.table.slice(0, len(rows)), rows, bad)


def check_ids(source: Source, column: str) -> None:
    """Make sure that a column holds another value in every row; reads the whole input.

    Memory is 8 bytes a row: hashes are compared, and only rows whose hashes agree are looked at
    again.

    Raises:
        InputError: no such column; a row without value; two rows with the same.
    """
    names = [field.name for field in source.fields]
    name = source.written_name(column)
    if name not in names:
        raise InputError(
            f"{source.files[0].name}: no id column '{column}'{near_hint(column, names)}"
        )
    hashes = array("Q")
    for numbered, row, value in _values(source, column):
        if value is None or value == "":
            raise InputError(f"{numbered.file.name}:{row}: no id in column '{column}'")
        hashes.append(_hash(value))
    ordered = np.sort(np.frombuffer(hashes, np.uint64))
    repeated = set(ordered[1:][ordered[1:] == ordered[:-1]].tolist())
    if not repeated:
        return
    seen: dict[object, str] = {}
    for numbered, row, value in _values(source, column):
        if _hash(value) in repeated:
            where = seen.setdefault(value, f"{numbered.file.name}:{row}")
            if where != f"{numbered.file.name}:{row}":
                raise InputError(
                    f"{numbered.file.name}:{row}: id {value!r} is that of {where}, too; "
                    "ids must differ"
                )


def _hash(value: object) -> int:
    return int.from_bytes(hashlib.blake2b(repr(value).encode(), digest_size=8).digest())


def _values(source: Source, column: str) -> Iterator[tuple[NumberedChunk, int, object]]:
    for numbered in read_source(source):
        table = numbered.chunk.table
        if column not in table.column_names:
            raise InputError(f"{numbered.file.name}: no id column '{column}'")
        values = pc.cast(table.column(column), pa.string()).to_pylist()
        yield from ((numbered, r, v) for r, v in zip(numbered.chunk.rows, values, strict=True))
