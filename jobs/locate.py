"""From what the user typed to files on this machine: patterns, folders, stdin, URLs, datasets."""

import fnmatch
import os
import random
import shutil
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial
from glob import glob, has_magic
from pathlib import Path, PurePosixPath
from typing import IO, Any, TypeVar

from jobs.sniff import FORMATS
from jobs.specs import Format
from mtl_core.bucket import Bucket
from mtl_core.errors import InputError
from mtl_core.files import file_sha256
from mtl_core.near import near_hint
from mtl_core.place import place_of

SUFFIXES: dict[str, Format] = {
    ".txt": "txt",
    ".csv": "csv",
    ".tsv": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
    ".arrow": "arrow",
    ".feather": "arrow",
}
COMPRESSED = (".gz", ".bz2", ".xz", ".zst", ".zstd")
INCOMING = "incoming-"
"""What the name of a copy begins with that is not whole yet."""
KEPT_S = 7 * 24 * 3600.0
TRIES = 4

T = TypeVar("T")


@dataclass(frozen=True)
class Located:
    """One input file on this machine."""

    path: Path
    origin: str = ""
    """What the user gave, where that was no file of this machine."""

    @property
    def name(self) -> str:
        """What messages call it."""
        return self.origin or str(self.path)


def locate(arguments: Iterable[str], spool: Path) -> list[Located]:
    """Expand what the user gave into files, in that order; folders and patterns sorted by name.

    Args:
        spool: where what comes from elsewhere is copied to; copies are dropped after a week.
    Raises:
        InputError: one is missing or cannot be fetched, or holds no file of a known format.
    """
    found: list[Located] = []
    for argument in arguments:
        if argument == "-":
            found.append(_from_stdin(spool))
        elif argument.startswith("hf://"):
            found.append(_from_dataset(argument, spool))
        elif "://" in argument:
            found += _from_url(argument, spool)
        else:
            found += [Located(path) for path in list_files(argument)]
    return found


def list_files(argument: str) -> list[Path]:
    """The files of one path, folder or pattern.

    Raises:
        InputError: it is missing, or holds no file of a known format.
    """
    path = Path(argument).expanduser()
    if path.is_dir():
        inside = sorted(p for p in path.rglob("*") if p.is_file() and _is_data(p, path))
        if not inside:
            raise InputError(f"{argument}: the folder holds no {'/'.join(FORMATS)} file")
        return inside
    if path.is_file():
        return [path]
    if path.exists():
        raise InputError(f"{argument}: neither a file nor a folder")
    if has_magic(argument):
        matching = sorted(Path(p) for p in glob(str(path), recursive=True) if Path(p).is_file())
        if not matching:
            raise InputError(f"{argument}: no file has such a name")
        return matching
    near = get_close_matches(path.name, _names_in(path.parent), n=1)
    hint = f"; did you mean '{path.parent / near[0]}'?" if near else ""
    raise InputError(f"{argument}: no such file{hint}")


def _names_in(folder: Path) -> list[str]:
    return os.listdir(folder) if folder.is_dir() else []


def _is_data(path: Path, root: Path) -> bool:
    # `datasets` keeps what it computed from a saved dataset beside it, as cache-….arrow.
    hidden = any(part[0] in "._" for part in path.relative_to(root).parts)
    return not hidden and not path.name.startswith("cache-") and format_of(path) is not None


def format_of(path: Path | PurePosixPath) -> Format | None:
    """The format by the file's name, or None when it does not tell."""
    stem = path.with_suffix("") if path.suffix.lower() in COMPRESSED else path
    return SUFFIXES.get(stem.suffix.lower())


def _from_stdin(spool: Path) -> Located:
    if sys.stdin.isatty():
        raise InputError("-: type sentences, one a line, by a pipe: `cat FILE | mtl label - …`")
    return Located(_keep(spool, "stdin", lambda to: shutil.copyfileobj(sys.stdin.buffer, to)), "-")


def _from_dataset(argument: str, spool: Path) -> Located:
    """``hf://NAME:SPLIT``: a dataset of the hub, or a folder that `datasets` saved or can load."""
    name, _, split = argument.removeprefix("hf://").rpartition(":")
    if not name:
        name, split = split, "train"
    from datasets import Dataset, disable_progress_bars, load_dataset, load_from_disk

    disable_progress_bars()
    try:
        saved = any((Path(name) / file).is_file() for file in ("dataset_dict.json", "state.json"))
        loaded = load_from_disk(name) if saved else load_dataset(name, split=split)
    except Exception as error:  # datasets raises whatever its readers and its network raise
        reason = str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
        raise InputError(f"{argument}: cannot be loaded ({reason})") from error
    if isinstance(loaded, dict):
        if split not in loaded:
            raise InputError(f"{argument}: no split '{split}'{near_hint(split, loaded)}")
        loaded = loaded[split]
    if not isinstance(loaded, Dataset):
        raise InputError(f"{argument}: no dataset of rows")
    path = _keep(spool, f"{PurePosixPath(name).name}-{split}.parquet", loaded.to_parquet)
    return Located(path, argument)


def _from_url(argument: str, spool: Path) -> list[Located]:
    if argument.startswith(("http://", "https://")):
        name = PurePosixPath(urllib.request.url2pathname(argument.split("?")[0])).name or "download"
        fetch = partial(_retried, argument, partial(_download, argument))
        return [Located(_keep(spool, name, fetch), argument)]
    return list(_from_store(argument, spool))


def _download(url: str, to: IO[bytes]) -> None:
    to.seek(0)
    to.truncate()
    with urllib.request.urlopen(url, timeout=60) as answer:
        shutil.copyfileobj(answer, to)


def _from_store(argument: str, spool: Path) -> Iterator[Located]:
    """Objects of ``s3://`` and its like: one, those of a folder, or those a pattern matches."""
    magic = [argument.find(character) for character in "*?[" if character in argument]
    base = argument[: min(magic)].rpartition("/")[0] if magic else argument
    place = place_of(base)
    assert isinstance(place, Bucket)
    if magic:
        pattern = argument.removeprefix(f"{base}/")
        names = [name for name in place.all_names() if fnmatch.fnmatchcase(name, pattern)]
    elif place.is_file():
        names = [""]
    else:
        names = [n for n in place.all_names() if format_of(PurePosixPath(n)) is not None]
    if not names:
        raise InputError(f"{argument}: no {'/'.join(FORMATS)} file there")
    for name in names:
        origin = place.at(name)
        with place.reading(name) as path:
            kept = _keep(spool, PurePosixPath(origin).name, partial(_copy_file, path))
        yield Located(kept, origin)


def _copy_file(path: Path, to: IO[bytes]) -> None:
    with path.open("rb") as stream:
        shutil.copyfileobj(stream, to)


def _retried(what: str, call: Callable[..., T], *arguments: object) -> T:
    """The call's answer, tried again after a while that grows and varies.

    Raises:
        InputError: it failed every time.
    """
    for attempt in range(TRIES):
        try:
            return call(*arguments)
        except (OSError, urllib.error.URLError) as error:
            final = isinstance(error, urllib.error.HTTPError) and error.code < 500
            if final or attempt == TRIES - 1:
                raise InputError(f"{what}: cannot be read ({_first_line(error)})") from error
            time.sleep(random.uniform(0.5, 1) * 2**attempt)
    raise AssertionError("unreachable")


def _first_line(error: Exception) -> str:
    if isinstance(error, urllib.error.URLError) and not isinstance(error, urllib.error.HTTPError):
        return str(error.reason)
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _keep(spool: Path, name: str, write: Callable[[IO[bytes]], Any]) -> Path:
    """Copy into the spool, under a folder named by the content: the same again is the same."""
    spool.mkdir(parents=True, exist_ok=True)
    _drop_old(spool)
    with tempfile.NamedTemporaryFile(dir=spool, prefix=INCOMING, delete=False) as stream:
        temporary = Path(stream.name)
        try:
            write(stream)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    path = spool / file_sha256(temporary)[:16] / name
    path.parent.mkdir(exist_ok=True)
    temporary.replace(path)
    return path


def _drop_old(spool: Path) -> None:
    """Remove copies that :func:`_keep` made a week ago or earlier, and nothing else.

    A copy is known by its folder's name, which is its checksum's beginning.
    """
    for entry in spool.iterdir():
        if time.time() - entry.lstat().st_mtime <= KEPT_S:
            continue
        if entry.is_file() and entry.name.startswith(INCOMING):
            entry.unlink(missing_ok=True)
        elif entry.is_dir() and not entry.is_symlink():
            for copy in entry.iterdir():
                if copy.is_file() and file_sha256(copy)[:16] == entry.name:
                    copy.unlink(missing_ok=True)
            with suppress(OSError):  # it holds something else, too
                entry.rmdir()
