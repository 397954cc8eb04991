"""Where files lie: a folder of this machine or a prefix of an object store, behind one interface.

A file appears under its name whole or not at all: by a rename in a folder, by one put in a store.
Readers get a path of this machine; what lies in a store is copied for as long as it is read, so
memory does not grow with a file.
"""

import errno
import os
import shutil
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from mtl_core.errors import SettingsError
from mtl_core.files import as_json, create_text, replace_file, temporary_beside, write_text

SCHEMES = ("s3", "gs", "az")
"""Of object stores. Only s3 is tested."""
PATIENCE_S = 15.0
"""How long a store that does not answer is waited for, unless told otherwise."""


class Place(ABC):
    """Files by name; ``errors/a.parquet`` is file a.parquet of folder errors."""

    transfers: int
    """How many files should be written at a time."""

    @abstractmethod
    def at(self, name: str) -> str:
        """A file's path or address, for messages."""

    @abstractmethod
    def below(self, name: str) -> "Place":
        """The place that a folder of this one is."""

    @abstractmethod
    def has(self, name: str) -> bool:
        """Whether there is a file of that name."""

    @abstractmethod
    def is_file(self) -> bool:
        """Whether the place itself is a file, and so can hold none."""

    @abstractmethod
    def is_empty(self) -> bool:
        """Whether nothing is there."""

    @abstractmethod
    def names(self, folder: str = "") -> list[str]:
        """Names of the files right in a folder, that folder before them, sorted; hidden ones too.

        Raises nothing where the folder is missing: it holds no file then.
        """

    @abstractmethod
    def folders(self) -> list[str]:
        """Names of the folders right below, sorted."""

    @abstractmethod
    def reading(self, name: str) -> AbstractContextManager[Path]:
        """A path of this machine to read a file from, for as long as the context lasts.

        Raises:
            FileNotFoundError: there is none of that name.
        """

    @abstractmethod
    def writing(self, name: str) -> AbstractContextManager[Path]:
        """A path to write a file to, which takes its name at the context's end.

        After an exception nothing appears, and what was there stays.
        """

    @abstractmethod
    def create_text(self, name: str, text: str) -> bool:
        """Write a small file unless there is one of that name; of several writers one wins.

        In a store that knows no conditional put the last writer wins: read it again to be sure.

        Returns:
            whether this call wrote it.
        """

    @abstractmethod
    def delete(self, *names: str) -> None:
        """Remove files; those that are not there are passed over."""

    @abstractmethod
    def delete_folder(self, folder: str) -> None:
        """Remove a folder with all it holds, as far as that can be done."""

    def matching(self, pattern: str, folder: str = "") -> list[str]:
        """Names of the files right in a folder that match a shell pattern."""
        prefix = f"{folder}/" if folder else ""
        return [n for n in self.names(folder) if fnmatchcase(n.removeprefix(prefix), pattern)]

    def read_text(self, name: str) -> str:
        """A small file's text (UTF-8).

        Raises:
            FileNotFoundError: there is none of that name.
        """
        with self.reading(name) as path:
            return path.read_text(encoding="utf-8")

    def write_text(self, name: str, text: str) -> None:
        """Write a small file."""
        with self.writing(name) as path:
            path.write_text(text, encoding="utf-8")

    def write_json(self, name: str, value: Any) -> None:
        """Write JSON, indented, keys in the order given."""
        self.write_text(name, as_json(value))


@dataclass(frozen=True)
class Folder(Place):
    """A folder of this machine, or of a file system it shares with others."""

    path: Path
    transfers = 1

    def __str__(self) -> str:
        return str(self.path)

    def at(self, name: str) -> str:
        return str(self.path / name)

    def below(self, name: str) -> "Folder":
        return Folder(self.path / name)

    def has(self, name: str) -> bool:
        return (self.path / name).is_file()

    def is_file(self) -> bool:
        return self.path.exists() and not self.path.is_dir()

    def is_empty(self) -> bool:
        return not self.path.exists() or (self.path.is_dir() and not any(self.path.iterdir()))

    def names(self, folder: str = "") -> list[str]:
        here = self.path / folder
        if not here.is_dir():
            return []
        with os.scandir(here) as entries:
            return sorted(os.path.join(folder, entry.name) for entry in entries if entry.is_file())

    def folders(self) -> list[str]:
        if not self.path.is_dir():
            return []
        with os.scandir(self.path) as entries:
            return sorted(entry.name for entry in entries if entry.is_dir())

    @contextmanager
    def reading(self, name: str) -> Iterator[Path]:
        path = self.path / name
        if not path.exists():
            raise FileNotFoundError(errno.ENOENT, "no such file", str(path))
        yield path

    @contextmanager
    def writing(self, name: str) -> Iterator[Path]:
        final = self.path / name
        final.parent.mkdir(parents=True, exist_ok=True)
        temporary = temporary_beside(final)
        try:
            yield temporary
            replace_file(temporary, final)
        finally:
            temporary.unlink(missing_ok=True)

    def write_text(self, name: str, text: str) -> None:
        write_text(self.path / name, text)

    def create_text(self, name: str, text: str) -> bool:
        return create_text(self.path / name, text)

    def delete(self, *names: str) -> None:
        for name in names:
            (self.path / name).unlink(missing_ok=True)

    def delete_folder(self, folder: str) -> None:
        shutil.rmtree(self.path / folder, ignore_errors=True)


def is_address(text: str | Path) -> bool:
    """Whether a text names something by a scheme (``s3://…``) and is no path of this machine."""
    return isinstance(text, str) and "://" in text


def place_of(where: str | Path, patience_s: float = PATIENCE_S) -> Place:
    """The place of a path, or of an address ``s3://BUCKET/PREFIX``.

    Args:
        patience_s: how long a store that does not answer is waited for.
    Raises:
        SettingsError: the address cannot be used, or holds a password.
    """
    if not is_address(where):
        return Folder(Path(where).expanduser())
    from mtl_core.bucket import Bucket

    return Bucket(checked_address(str(where)), patience_s)


def checked_address(address: str) -> str:
    """An object store's address without a slash at its end.

    Raises:
        SettingsError: another scheme, no bucket, a password, options, or a step upwards in it.
    """
    scheme, _, rest = address.partition("://")
    bucket, _, prefix = rest.rstrip("/").partition("/")
    shown = f"{scheme}://{rest.rpartition('@')[2].partition('?')[0]}"
    if scheme not in SCHEMES:
        known = ", ".join(f"{name}://" for name in SCHEMES)
        raise SettingsError(f"{shown}: no object store; addresses begin with {known}")
    if "@" in bucket or "?" in rest:
        raise SettingsError(
            f"{shown}: an address holds no password and no options; set them by AWS_ACCESS_KEY_ID, "
            "AWS_SECRET_ACCESS_KEY, AWS_REGION, AWS_ENDPOINT_URL"
        )
    if not bucket or any(step in ("", ".", "..") for step in prefix.split("/") if prefix):
        raise SettingsError(f"{shown}: no address; it looks like {scheme}://BUCKET/FOLDER")
    return f"{scheme}://{bucket}{'/' if prefix else ''}{prefix}"


def local_path(text: str) -> Path:
    """A path of this machine, as the user gave it.

    Raises:
        SettingsError: it is an address; what is written here goes to this machine's disk.
    """
    if is_address(text):
        raise SettingsError(f"{text}: give a file or folder of this machine")
    return Path(text).expanduser()
