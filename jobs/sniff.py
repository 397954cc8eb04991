"""How a text file is written: compression, encoding, delimiter; found from its beginning."""

import codecs
import csv
import io
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, cast, get_args

from charset_normalizer import from_bytes

from jobs.readers import DAMAGE, OPENERS
from jobs.specs import Compression, Format

SAMPLE_BYTES = 1 << 18
DELIMITERS = ",;\t|"
MAGIC: Mapping[bytes, Compression] = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bz2",
    b"\xfd7zXZ\x00": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
}
BYTE_ORDER_MARKS = {codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
# What files of sentences come in where they are not UTF-8, the likelier first; more candidates
# make short samples a matter of luck.
ENCODINGS = ["cp1252", "cp1250", "cp1251", "cp932", "gb18030", "big5", "euc_kr"]


def compression_of(path: Path) -> Compression:
    """The compression by the file's first bytes; its name may lie."""
    with path.open("rb") as stream:
        start = stream.read(6)
    return next((kind for magic, kind in MAGIC.items() if start.startswith(magic)), "none")


def sample_of(path: Path, compression: Compression) -> bytes:
    """The first 256 KiB of the file's content, to the end of a line where there is one.

    Damage is for the readers to find, who know the row.
    """
    sample = bytearray()
    with cast(IO[bytes], OPENERS[compression](path, "rb")) as stream, suppress(*DAMAGE):
        while len(sample) < SAMPLE_BYTES and (some := stream.read(1 << 13)):
            sample += some
    end = len(sample) if len(sample) < SAMPLE_BYTES else sample.rfind(b"\n") + 1
    return bytes(sample[:end] or sample)


def format_of_content(sample: bytes, *, columned: bool = False) -> Format:
    """The format of a file whose name says nothing; csv rather than txt if it has columns."""
    if sample.startswith(b"PAR1"):
        return "parquet"
    if sample.startswith((b"ARROW1", b"\xff\xff\xff\xff")):
        return "arrow"
    if sample.lstrip().startswith(b"{"):
        return "jsonl"
    return "csv" if columned else "txt"


def encoding_of(sample: bytes, kind: Format) -> str:
    """UTF-8 unless no line that goes beyond ASCII is UTF-8, and another encoding makes sense.

    A file that is UTF-8 but for some rows stays UTF-8, so that those rows are set aside. JSON is
    UTF-8 by its standard.
    """
    if kind in ("parquet", "arrow"):
        return "utf-8"
    for mark, name in BYTE_ORDER_MARKS.items():
        if sample.startswith(mark):
            return name
    beyond_ascii = [line for line in sample.splitlines() if not line.isascii()]
    if kind == "jsonl" or not beyond_ascii or any(_is_utf8(line) for line in beyond_ascii):
        return "utf-8"
    likely = [
        (match.chaos, -match.coherence, ENCODINGS.index(name), name)
        for match in from_bytes(b"\n".join(beyond_ascii), cp_isolation=ENCODINGS)
        for name in match.could_be_from_charset
        if name in ENCODINGS
    ]
    return min(likely)[-1] if likely else "utf-8"


def _is_utf8(line: bytes) -> bool:
    try:
        line.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def delimiter_of(sample: bytes, encoding: str) -> str:
    """The delimiter that cuts the header into most columns and the rows into as many.

    ``csv.Sniffer`` takes letters and quoted commas for delimiters too readily.
    """
    text = sample.decode(encoding, "replace").removeprefix("\ufeff")
    best, columns = ",", 1
    for delimiter in DELIMITERS:
        rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
        try:
            widths = [len(row) for row, _ in zip(rows, range(100), strict=False) if row]
        except csv.Error:
            continue
        fits = sum(width == widths[0] for width in widths) if widths else 0
        if fits >= 0.9 * len(widths) and widths and widths[0] > columns:
            best, columns = delimiter, widths[0]
    return best


FORMATS = get_args(Format)
