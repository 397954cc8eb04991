"""How a file is written, found from its name and its beginning: format, compression, encoding."""

import codecs
import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import IO, Literal, cast, get_args

from charset_normalizer import from_bytes

from jobs.input.readers import DAMAGE, OPENERS
from jobs.specs import Compression, Format
from mtl_core.errors import InputError

FORMATS = get_args(Format)
SUFFIXES: dict[str, Format] = {
    ".txt": "txt",
    ".csv": "csv",
    ".tsv": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".parquet": "parquet",
    ".arrow": "arrow",
    ".feather": "arrow",
}
COMPRESSED = (".gz", ".bz2", ".xz", ".zst", ".zstd")
SAMPLE_BYTES = 1 << 18
MAGIC: Mapping[bytes, Compression] = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bz2",
    b"\xfd7zXZ\x00": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
}
# UTF-32's marks come first, since one of them begins with one of UTF-16's.
BYTE_ORDER_MARKS = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
# Encodings that a file of sentences may be in if it is not UTF-8, the likelier first. With more
# candidates, a guess from a short sample would be a matter of luck.
ENCODINGS = ["cp1252", "cp1250", "cp1251", "cp932", "gb18030", "big5", "euc_kr"]
NO_TEXT_ENCODINGS = ("idna", "punycode", "unicode_escape", "raw_unicode_escape")
ARRAY = re.compile(rb"\s*\[\s*(\{|\]\s*$)")


def format_of(path: Path | PurePosixPath) -> Format | None:
    """The format by the file's name, or None when it does not tell."""
    stem = path.with_suffix("") if path.suffix.lower() in COMPRESSED else path
    return SUFFIXES.get(stem.suffix.lower())


def remedy_of(path: Path) -> str:
    """What to do with a file of no known format, judged by its name; empty: not known."""
    remedies = {
        (".zip",): f"unpack it: unzip -p {path} | mtl label - …",
        (".tar", ".tgz", ".tar.gz", ".7z", ".rar"): "unpack it and name the files in it",
        (".xlsx", ".xls", ".ods", ".numbers"): "save its sheet as csv (UTF-8)",
        (".orc", ".avro", ".pkl", ".sas7bdat", ".dta", ".sav", ".sqlite", ".db"): (
            "write its rows as Parquet, csv or jsonl"
        ),
    }
    name = path.name.lower()
    return next((what for ends, what in remedies.items() if name.endswith(ends)), "")


def compression_of(path: Path) -> Compression:
    """The compression, told by the file's first bytes, since its name may be wrong."""
    with path.open("rb") as stream:
        start = stream.read(6)
    return next((kind for magic, kind in MAGIC.items() if start.startswith(magic)), "none")


def sample_of(path: Path, compression: Compression) -> tuple[bytes, bool]:
    """The first 256 KiB of the file's content, cut behind the end of a line where there is one.

    Damage raises nothing here: the readers find it, and know after which row it is.

    Returns:
        the sample, uncompressed, and whether it is the whole file.
    """
    sample, whole = bytearray(), False
    with cast(IO[bytes], OPENERS[compression](path, "rb")) as stream, suppress(*DAMAGE):
        while len(sample) < SAMPLE_BYTES and not whole:
            some = stream.read(1 << 13)
            sample += some
            whole = not some
    end = len(sample) if whole else sample.rfind(b"\n") + 1
    return bytes(sample[:end] or sample), whole


def format_of_content(sample: bytes, *, columned: bool = False) -> Format:
    """The format of a file whose name does not tell it.

    Args:
        columned: the user has spoken of columns, so that text is csv rather than txt.
    """
    if sample.startswith(b"PAR1"):
        return "parquet"
    if sample.startswith((b"ARROW1", b"\xff\xff\xff\xff")):
        return "arrow"
    if ARRAY.match(sample):
        return "json"
    if sample.lstrip().startswith(b"{"):
        return "jsonl"
    return "csv" if columned else "txt"


def json_kind(sample: bytes, *, whole: bool, certain: bool) -> Format | None:
    """Whether a file holds a JSON array of objects, or an object a line; None: neither.

    The file's name does not count.

    Args:
        whole: the sample is the whole file.
        certain: the file is known to hold rows. Where it is not, a file of one line with one
            object is taken for settings or a description, which lie in many folders.
    """
    if ARRAY.match(sample):
        return "json"
    lines = [line.strip() for line in sample.splitlines() if line.strip()]
    objects = [line for line in lines[:2] if line.startswith(b"{") and line.endswith(b"}")]
    if certain:
        spread = lines[0] in (b"{", b"[") or lines[0].endswith((b",", b"[", b"{"))
        return None if spread and not objects else "jsonl"
    return "jsonl" if len(objects) == 2 or (objects and not whole) else None


def check_content(sample: bytes, kind: Format, name: str) -> None:
    """Refuse a file that is to be read as text, but whose content is of a binary format.

    Raises:
        InputError: it is such a file; the message says what to do.
    """
    if kind in ("parquet", "arrow"):
        return
    if sample.startswith(b"PK\x03\x04"):
        raise InputError(
            f"{name}: is a zip archive or a spreadsheet, no {kind}; unpack it (unzip -p FILE | "
            "mtl label - …) or save it as csv"
        )
    own = format_of_content(sample)
    if own in ("parquet", "arrow"):
        raise InputError(f"{name}: is {own}, no {kind}; give --input-format {own}")


def named_encoding(name: str) -> str:
    """An encoding as Python names it.

    Raises:
        InputError: there is no encoding of that name, or it is not one for text files.
    """
    try:
        known = codecs.lookup(name).name
        usable = "a,\n".encode(known).decode(known) == "a,\n" and not known.replace(
            "-", "_"
        ).startswith(NO_TEXT_ENCODINGS)
        codecs.getincrementaldecoder(known)
    except (LookupError, UnicodeError, ValueError):
        usable, known = False, ""
    if not usable:
        raise InputError(
            f"--encoding {name}: no encoding of text; for example utf-8, cp1252, latin-1, koi8-r, "
            "utf-16, shift_jis, gb18030"
        )
    return "utf-8" if known == "utf-8-sig" else known


def encoding_of(sample: bytes, kind: Format) -> str:
    """The encoding of a file, found from its beginning.

    A byte order mark decides. Without one it is UTF-8 if any line beyond ASCII is UTF-8, or if no
    other encoding makes sense. So a file that is UTF-8 but for some rows stays UTF-8, and those
    rows are set aside. JSON is UTF-8 by its standard.
    """
    if kind in ("parquet", "arrow"):
        return "utf-8"
    for mark, name in BYTE_ORDER_MARKS.items():
        if sample.startswith(mark):
            return name
    if b"\0" in sample and (found := _unmarked_utf16(sample)):
        return found
    beyond_ascii = [line for line in sample.splitlines() if not line.isascii()]
    if (
        kind in ("jsonl", "json")
        or not beyond_ascii
        or any(_is_utf8(line) for line in beyond_ascii)
    ):
        return "utf-8"
    likely = [
        (match.chaos, -match.coherence, ENCODINGS.index(name), name)
        for match in from_bytes(b"\n".join(beyond_ascii), cp_isolation=ENCODINGS)
        for name in match.could_be_from_charset
        if name in ENCODINGS
    ]
    return min(likely)[-1] if likely else "utf-8"


def _unmarked_utf16(sample: bytes) -> str | None:
    """The kind of UTF-16 of a sample without a byte order mark; None if it is no UTF-16.

    In UTF-16 of mostly western text the zero bytes stand all at odd places, or all at even ones.
    """
    for name, place in (("utf-16-le", 1), ("utf-16-be", 0)):
        zeros = sample[place::2].count(0)
        if zeros < 0.1 * len(sample) / 2 or sample[1 - place :: 2].count(0):
            continue
        text = sample[: len(sample) // 2 * 2].decode(name, "replace")
        if text.count("\n") == sample.count(b"\n"):
            return name
    return None


def line_end_of(sample: bytes, encoding: str) -> Literal["\n", "\r"]:
    """What ends a line: a carriage return if no line, but perhaps the last, ends in a line feed."""
    text = sample.decode(encoding, "replace").removesuffix("\n")
    return "\r" if "\r" in text.removesuffix("\r") and "\n" not in text else "\n"


def _is_utf8(line: bytes) -> bool:
    try:
        line.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True
