"""Input files checked and described: what each is, how it is written, its fingerprint."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jobs.input.dialect import dialect_of
from jobs.input.folders import Listing, Located
from jobs.input.readers import (
    DAMAGE,
)
from jobs.input.sniff import (
    FORMATS,
    SUFFIXES,
    check_content,
    compression_of,
    encoding_of,
    format_of,
    format_of_content,
    json_kind,
    line_end_of,
    named_encoding,
    remedy_of,
    sample_of,
)
from jobs.specs import Format, InputFile
from mtl_core.errors import InputError
from mtl_core.files import file_sha256


@dataclass(frozen=True)
class AsGiven:
    """What the user said of how the files are written; what is None is to be found."""

    format: Format | None = None
    """The format of files whose name does not tell it."""
    encoding: str | None = None
    """The encoding of text files."""
    header: bool | None = None
    """Whether a line of csv and tsv files names the columns."""
    text_columns: tuple[str, ...] = ()


class NoRowsError(Exception):
    """A file holds no rows, for the reason given. It is passed over if it was found in a folder."""


def describe(
    located: Sequence[Located], given: AsGiven
) -> tuple[tuple[InputFile, ...], tuple[str, ...]]:
    """Describe input files; files found in folders are passed over if they hold no rows.

    Returns:
        the files, and what the user should know of them, a line each.
    Raises:
        InputError: a file cannot be used, or none holds rows.
    """
    files: list[InputFile] = []
    listing = Listing()
    for file in located:
        try:
            files.append(_described(file, given))
        except NoRowsError as reason:
            if not file.found or len(located) == 1:
                raise InputError(f"{file.name}: {reason}") from None
            listing.leave(str(reason), file.name)
    if not files:
        raise InputError(f"no rows in any file; {listing.notes[0]}")
    notes = [note for file in files for note in [assumptions(file)] if note]
    return tuple(files), (*listing.notes, *notes)


def fingerprint(located: Located, given: AsGiven | None = None) -> InputFile:
    """Describe one input file; reads all of it once for its checksum.

    Raises:
        InputError: the file is empty, unreadable, or of no known format.
    """
    try:
        return _described(located, given or AsGiven())
    except NoRowsError as reason:
        raise InputError(f"{located.name}: {reason}") from None


def _described(located: Located, given: AsGiven) -> InputFile:
    path, name = located.path, located.name
    try:
        size = path.stat().st_size
        compression = compression_of(path)
        sample, whole = sample_of(path, compression)
        sha256 = file_sha256(path) if sample else ""
    except DAMAGE as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{name}: cannot be read ({reason})") from error
    kind = _format(located, given, sample)
    content = sample.strip() if kind in WITHOUT_BLANK else sample
    if not size or (whole and not content):
        raise NoRowsError("the file is empty")
    check_content(sample, kind, name)
    encoding = named_encoding(given.encoding) if given.encoding else encoding_of(sample, kind)
    file = InputFile(
        path=str(path.resolve()),
        origin=located.origin,
        format=kind,
        compression=compression,
        encoding="utf-8" if kind in ("parquet", "arrow") else encoding,
        delimiter="\t" if kind == "tsv" else ",",
        partition=located.partition,
        bytes=size,
        sha256=sha256,
    )
    if kind in ("parquet", "arrow"):
        return file
    file = file.model_copy(update={"line_end": line_end_of(sample, encoding)})
    if kind in ("csv", "tsv"):
        return _with_dialect(file, sample, whole, given)
    return _with_json_kind(file, sample, whole, located) if kind in ("json", "jsonl") else file


NO_JSON_ROWS = (
    "JSON that is no array of objects and has no object a line; write its rows one a line: "
    "jq -c '.ROWS[]' FILE > rows.jsonl"
)


WITHOUT_BLANK = ("csv", "tsv", "json", "jsonl")
"""Formats in which a blank line is no row."""


def _format(located: Located, given: AsGiven, sample: bytes) -> Format:
    kind = given.format or format_of(located.path)
    if kind is not None:
        return kind
    if located.origin:
        columned = bool(given.text_columns) or given.header is not None
        return format_of_content(sample, columned=columned)
    what = remedy_of(located.path) or (
        f"name it {', '.join(SUFFIXES)} or give --input-format {'|'.join(FORMATS)}"
    )
    raise InputError(f"{located.path}: its name ends in no known format; {what}")


def _with_json_kind(file: InputFile, sample: bytes, whole: bool, located: Located) -> InputFile:
    text = sample.decode(file.encoding, "replace").removeprefix("\ufeff")
    certain = not located.found or format_of(located.path) == "jsonl"
    kind = json_kind(text.encode("utf-8", "replace"), whole=whole, certain=certain)
    if kind is None:
        raise NoRowsError(NO_JSON_ROWS)
    return file.model_copy(update={"format": kind})


def _with_dialect(file: InputFile, sample: bytes, whole: bool, given: AsGiven) -> InputFile:
    text = sample.decode(file.encoding, "replace")
    if file.line_end == "\r":
        text = text.replace("\r", "\n")
    dialect = dialect_of(
        text,
        tabs=file.format == "tsv",
        whole=whole,
        header=given.header,
        named=given.text_columns,
    )
    return file.model_copy(
        update={
            "delimiter": dialect.delimiter,
            "quotes": dialect.quotes,
            "skip": dialect.skip,
            "header": dialect.header,
            "doubt": dialect.doubt,
        }
    )


def assumptions(file: InputFile) -> str:
    """One line on what had to be guessed of how a file is written; empty if nothing had to."""
    guessed: list[str] = []
    if file.origin and format_of(Path(file.path)) is None:
        guessed.append(file.format)
    if file.encoding != "utf-8":
        guessed.append(f"encoded in {file.encoding}")
    if file.format == "csv" and file.delimiter != ",":
        guessed.append(
            "separated by " + ("tabs" if file.delimiter == "\t" else f"'{file.delimiter}'")
        )
    if file.quotes == "backslash":
        guessed.append('quotes within quotes written as \\"')
    elif file.format == "tsv" and file.quotes == "double":
        guessed.append("quotes used as in csv")
    elif file.format == "csv" and file.quotes == "none":
        guessed.append("quotes taken as text")
    if not file.header:
        guessed.append("without a header line (columns column_1, column_2, …)")
    said = [f"read as {', '.join(guessed)}"] if guessed else []
    if file.doubt:
        said.append(f"{file.doubt}; if it is no header, give --no-header")
    return f"{file.name}: {'; '.join(said)}" if said else ""
