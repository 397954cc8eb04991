"""From what the user typed to files on this machine: stdin, pipes, URLs, stores, datasets."""

import random
import shutil
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, Any, TypeVar

from jobs.input.folders import Listing, Located, in_store, list_files, partition_of
from jobs.input.sniff import FORMATS
from mtl_core.errors import InputError
from mtl_core.files import file_sha256
from mtl_core.storage.address import place_of
from mtl_core.storage.bucket import Bucket
from mtl_core.suggest import near_hint

INCOMING = "incoming-"
"""The beginning of a copy's name for as long as the copy is not whole."""
KEPT_S = 7 * 24 * 3600.0
TRIES = 4

T = TypeVar("T")


def locate(arguments: Iterable[str], spool: Path) -> Listing:
    """Expand what the user gave into files, in that order; folders and patterns sorted by name.

    Args:
        spool: the folder to which input from elsewhere is copied; copies are dropped after a week.
    Raises:
        InputError: an argument names nothing that is there, or something that cannot be fetched or
            holds no file of a known format.
    """
    listing = Listing()
    for argument in arguments:
        if argument == "-":
            listing.files.append(_from_stdin(spool))
        elif argument.startswith("hf://"):
            listing.files.append(_from_dataset(argument, spool))
        elif argument.startswith(("http://", "https://")):
            listing.files.append(_from_url(argument, spool))
        elif "://" in argument:
            listing.add(_from_store(argument, spool))
        else:
            here = list_files(argument)
            here.files = [_from_here(file, argument, spool) for file in here.files]
            listing.add(here)
    return listing


def _from_here(file: Located, argument: str, spool: Path) -> Located:
    """A file of this machine; a pipe (as of ``<(…)``) is copied, as it can be read only once."""
    if file.path.is_file():
        return file
    if not file.path.is_fifo():
        raise InputError(f"{argument}: neither a file nor a folder")
    with file.path.open("rb") as pipe:
        kept = _keep(spool, "pipe", lambda to: shutil.copyfileobj(pipe, to))
    return Located(kept, argument)


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


def _from_url(argument: str, spool: Path) -> Located:
    name = PurePosixPath(urllib.request.url2pathname(argument.split("?")[0])).name or "download"
    fetch = partial(_retried, argument, partial(_download, argument))
    return Located(_keep(spool, name, fetch), argument)


def _download(url: str, to: IO[bytes]) -> None:
    to.seek(0)
    to.truncate()
    with urllib.request.urlopen(url, timeout=60) as answer:
        shutil.copyfileobj(answer, to)


def _from_store(argument: str, spool: Path) -> Listing:
    """Objects of ``s3://`` and its like: one, all of a folder, or all that match a pattern."""
    magic = [argument.find(character) for character in "*?[" if character in argument]
    base = argument[: min(magic)].rpartition("/")[0] if magic else argument
    place = place_of(base)
    assert isinstance(place, Bucket)
    listing, one = Listing(), not magic and place.is_file()
    names = [""]
    if not one:
        pattern = argument.removeprefix(f"{base}/") if magic else ""
        names, listing.left = in_store(place.all_names(), pattern)
    if not names:
        raise InputError(f"{argument}: no {'/'.join(FORMATS)} file there")
    for name in names:
        origin = place.at(name)
        with place.reading(name) as path:
            kept = _keep(spool, PurePosixPath(origin).name, partial(_copy_file, path))
        partition = partition_of(PurePosixPath(name).parts[:-1])
        listing.files.append(Located(kept, origin, partition, not one))
    return listing


def _copy_file(path: Path, to: IO[bytes]) -> None:
    with path.open("rb") as stream:
        shutil.copyfileobj(stream, to)


def _retried(what: str, call: Callable[..., T], *arguments: object) -> T:
    """Call a function and return its answer; if it fails, try again after growing random pauses.

    Args:
        what: what is being read, for messages.
    Raises:
        InputError: it failed TRIES times, or in a way that another try does not mend.
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
    """Write a file into a folder of the spool that is named by the file's checksum.

    The same content under the same name is the same file, then.
    """
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

    A copy is recognised by its folder's name, which is the beginning of the copy's checksum.
    """
    for entry in spool.iterdir():
        with suppress(FileNotFoundError):  # another command may be removing the same ones
            _drop_if_old(entry)


def _drop_if_old(entry: Path) -> None:
    if time.time() - entry.lstat().st_mtime <= KEPT_S:
        return
    if entry.is_file() and entry.name.startswith(INCOMING):
        entry.unlink(missing_ok=True)
    elif entry.is_dir() and not entry.is_symlink():
        for copy in entry.iterdir():
            if copy.is_file() and file_sha256(copy)[:16] == entry.name:
                copy.unlink(missing_ok=True)
        with suppress(OSError):  # it holds something else, too
            entry.rmdir()
