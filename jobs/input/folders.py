"""The files of a folder or pattern: links are followed, outputs passed over, omissions noted."""

import fnmatch
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from glob import glob, has_magic
from pathlib import Path, PurePosixPath
from urllib.parse import unquote

from jobs.input.delta import LOG, Partition, delta_files, refuse_other_tables
from jobs.input.sniff import FORMATS, format_of
from jobs.output.layout import MANIFEST, OWNER
from mtl_core.errors import InputError
from mtl_core.suggest import nearest

NO_VALUE = "__HIVE_DEFAULT_PARTITION__"
SAID = 3
"""How many names a note gives of what was left out for one reason."""


@dataclass(frozen=True)
class Located:
    """One input file on this machine."""

    path: Path
    origin: str = ""
    """What the user gave, if that was no file of this machine."""
    partition: Partition = ()
    """Columns that the names of the file's folders give, with their values."""
    found: bool = False
    """Whether the file was found in a folder or by a pattern, and not named by the user."""

    @property
    def name(self) -> str:
        """The file's name in messages."""
        return self.origin or str(self.path)


@dataclass
class Listing:
    """Input files, and what was left out."""

    files: list[Located] = field(default_factory=list)
    left: dict[str, list[str]] = field(default_factory=dict)
    """Names of what was left out, by the reason."""

    def leave(self, reason: str, name: str) -> None:
        """Note that something is left out, and why."""
        self.left.setdefault(reason, []).append(name)

    def add(self, other: "Listing") -> None:
        """Append another listing to this one."""
        self.files += other.files
        for reason, names in other.left.items():
            self.left.setdefault(reason, []).extend(names)

    @property
    def notes(self) -> list[str]:
        """What the user should know, in lines.

        One for each reason why something was left out, and one on columns from folders' names.
        """
        lines = []
        for reason, names in self.left.items():
            more = f" and {len(names) - SAID} more" if len(names) > SAID else ""
            lines.append(f"not read, {reason}: {', '.join(sorted(names)[:SAID])}{more}")
        keys = dict.fromkeys(key for file in self.files for key, _ in file.partition)
        if keys:
            lines.append(f"columns from folders' names: {', '.join(keys)}")
        return lines


UNKNOWN = "no known format"
OUTPUT = "an output of mtl"


def list_files(argument: str) -> Listing:
    """The files of one path, folder or pattern.

    Raises:
        InputError: there is no such path, or no file of a known format in it.
    """
    if not argument.strip():
        raise InputError(
            "an INPUT is empty (a variable that is not set?); give a file, or . for this folder"
        )
    path = Path(argument).expanduser()
    if path.is_dir():
        listing = _in_folder(path)
        if not listing.files:
            there = f"; {listing.notes[0]}" if listing.left else ""
            raise InputError(f"{argument}: the folder holds no {'/'.join(FORMATS)} file{there}")
        return listing
    if path.exists():
        return Listing([Located(path)])
    if has_magic(argument):
        listing = _matching(argument, path)
        if not listing.files:
            raise InputError(f"{argument}: no file has such a name")
        return listing
    near = nearest(path.name, _names_in(path.parent))
    hint = f"; did you mean '{path.parent / near}'?" if near else ""
    raise InputError(f"{argument}: no such file{hint}")


def _names_in(folder: Path) -> list[str]:
    return os.listdir(folder) if folder.is_dir() else []


def _in_folder(root: Path) -> Listing:
    """All input files below a folder, sorted by path.

    A folder is read once, however many links lead to it. A link to a file is left out if the file
    itself is read.
    """
    listing = Listing()
    found: list[Located] = []
    for folder, files in _walk(root, listing):
        if (folder / LOG).is_dir():
            inside = partition_of(folder.relative_to(root).parts)
            found += [Located(p, "", inside + own, True) for p, own in delta_files(folder)]
            continue
        partition = partition_of(folder.relative_to(root).parts)
        for name in files:
            path = folder / name
            if path.is_symlink() and not path.exists():
                listing.leave("a link to nothing", _short(path, root))
            elif not path.is_file() or format_of(path) is None:
                listing.leave(UNKNOWN, _short(path, root))
            else:
                found.append(Located(path, "", partition, True))
    plain = {file.path.resolve() for file in found if not file.path.is_symlink()}
    for file in sorted(found, key=lambda file: file.path):
        real = file.path.resolve()
        if file.path.is_symlink() and real in plain:
            listing.leave("a link to a file that is read", _short(file.path, root))
        else:
            plain.add(real)
            listing.files.append(file)
    return listing


def _walk(root: Path, listing: Listing) -> Iterator[tuple[Path, list[str]]]:
    """The folders below a root, each with the names of its files; nothing that is hidden.

    Each real folder comes once. Outputs and the folders within a Delta table do not come.
    """
    seen = {root.resolve()}
    for folder, folders, files in os.walk(root, followlinks=True):
        here = Path(folder)
        refuse_other_tables(here, files, folders)
        table = LOG in folders
        kept = []
        # Real folders before links to them, so that each is read under its own name.
        for name in sorted(folders, key=lambda name: ((here / name).is_symlink(), name)):
            below = here / name
            if is_hidden(name) or table:
                continue
            if below.resolve() in seen:
                listing.leave("a link to a folder that is read", _short(below, root))
            elif is_output(below):
                listing.leave(OUTPUT, _short(below, root))
            else:
                seen.add(below.resolve())
                kept.append(name)
        folders[:] = kept
        yield here, sorted(name for name in files if not is_hidden(name))


def is_hidden(name: str) -> bool:
    """Whether a file or folder of this name is no input when the folder that holds it is read."""
    # `datasets` keeps what it computed from a saved dataset beside it, as cache-….arrow.
    return name[0] in "._" or (name.startswith("cache-") and name.endswith(".arrow"))


def is_output(folder: Path) -> bool:
    """Whether a folder is the output of a label job, finished or not."""
    return (folder / MANIFEST).is_file() or (folder / OWNER).is_file()


def _matching(argument: str, path: Path) -> Listing:
    """The files that match a pattern; those in outputs below its first wildcard are left out."""
    listing = Listing()
    depth = next(i for i, part in enumerate(path.parts) if has_magic(part))
    base = Path(*path.parts[:depth])
    for found in sorted(Path(p) for p in glob(str(path), recursive=True)):
        inside = found.relative_to(base).parts[:-1] if depth else found.parts[:-1]
        above = [base.joinpath(*inside[: n + 1]) for n in range(len(inside))]
        if not found.is_file():
            continue
        if any(map(is_output, above)):
            listing.leave(OUTPUT, str(found.parent))
        else:
            listing.files.append(Located(found, "", partition_of(inside), True))
    listing.left = {reason: list(dict.fromkeys(names)) for reason, names in listing.left.items()}
    return listing


def partition_of(folders: Iterable[str]) -> Partition:
    """The columns that folders named ``key=value`` give; of two with one key, the inner wins."""
    found: dict[str, str | None] = {}
    for folder in folders:
        key, mark, value = folder.partition("=")
        if mark and key:
            found[unquote(key)] = None if value == NO_VALUE else unquote(value)
    return tuple(found.items())


def in_store(names: Sequence[str], pattern: str = "") -> tuple[list[str], dict[str, list[str]]]:
    """Choose the objects of a store that are input, by their names.

    Args:
        pattern: names must match it; empty: names must tell a known format.
    Returns:
        the names that are input; and names that were left out, by the reason.
    Raises:
        InputError: a table of Delta, Iceberg or Hudi is among them.
    """
    for name in names:
        if {LOG, ".hoodie"} & set(name.split("/")[:-1]) or name.endswith(".metadata.json"):
            raise InputError(
                f"{name}: part of a Delta, Iceberg or Hudi table, whose files hold removed rows, "
                "too; write its rows to a folder of Parquet first"
            )
    marks = (MANIFEST, OWNER)
    outputs = {
        name.removesuffix(mark) for name in names for mark in marks if name.endswith(f"/{mark}")
    }
    listing = Listing()
    kept = []
    for name in names:
        parts = PurePosixPath(name).parts
        output = next((folder for folder in outputs if name.startswith(folder)), None)
        if pattern and not fnmatch.fnmatchcase(name, pattern):
            continue
        if output is not None:
            listing.left.setdefault(OUTPUT, [])
            listing.left[OUTPUT] = sorted({*listing.left[OUTPUT], output.rstrip("/")})
        elif not pattern and any(is_hidden(part) for part in parts):
            continue
        elif not pattern and format_of(PurePosixPath(name)) is None:
            listing.leave(UNKNOWN, name)
        else:
            kept.append(name)
    return kept, listing.left


def _short(path: Path, root: Path) -> str:
    return str(path.relative_to(root))
