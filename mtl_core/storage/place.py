"""Where files lie: a folder of this machine or a prefix of an object store, behind one interface.

A file appears under its name whole or not at all: by a rename in a folder, by one put in a store.
Readers get a path of this machine. A file in a store is copied to disk for as long as it is read,
so memory does not grow with the file.
"""

import shutil
from abc import ABC, abstractmethod
from contextlib import AbstractContextManager
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from mtl_core.files import as_json


class Place(ABC):
    """Files by name; ``errors/a.parquet`` is file a.parquet of folder errors."""

    transfers: int
    """How many files should be written at a time."""

    @abstractmethod
    def at(self, name: str) -> str:
        """A file's path or address, for messages."""

    @abstractmethod
    def below(self, name: str) -> "Place":
        """A folder of this place, as a place of its own."""

    @abstractmethod
    def has(self, name: str) -> bool:
        """Whether there is a file of that name."""

    @abstractmethod
    def is_file(self) -> bool:
        """Whether the place itself is a file, and so can hold no files."""

    @abstractmethod
    def is_empty(self) -> bool:
        """Whether the place holds nothing, or does not exist."""

    @abstractmethod
    def names(self, folder: str = "") -> list[str]:
        """Names of the files directly in a folder, with the folder, sorted; hidden files too.

        A missing folder holds no files; it raises no error.
        """

    @abstractmethod
    def folders(self) -> list[str]:
        """Names of the folders directly in this place, sorted."""

    @abstractmethod
    def reading(self, name: str) -> AbstractContextManager[Path]:
        """A path of this machine to read a file from, for as long as the context lasts.

        Raises:
            FileNotFoundError: there is no file of that name.
        """

    @abstractmethod
    def writing(self, name: str) -> AbstractContextManager[Path]:
        """A path to write a file to; the file takes its name at the context's end.

        After an exception nothing appears, and what was there stays.
        """

    @abstractmethod
    def create_text(self, name: str, text: str) -> bool:
        """Write a small file unless there is a file of that name; of several writers one wins.

        In a store without conditional puts the last writer wins: read the file again to be sure.

        Returns:
            whether this call wrote the file.
        """

    @abstractmethod
    def copy(self, name: str, to: str) -> None:
        """Give a file's content a second name in this place; what has that name is replaced.

        Raises:
            FileNotFoundError: there is no file of that name.
        """

    @abstractmethod
    def delete(self, *names: str) -> None:
        """Remove files; a name without a file is no error."""

    @abstractmethod
    def delete_folder(self, folder: str) -> None:
        """Remove a folder with all it holds, as far as possible; raises no error."""

    def matching(self, pattern: str, folder: str = "") -> list[str]:
        """Names of the files directly in a folder that match a shell pattern, sorted."""
        prefix = f"{folder}/" if folder else ""
        return [n for n in self.names(folder) if fnmatchcase(n.removeprefix(prefix), pattern)]

    def read_text(self, name: str) -> str:
        """A small file's text (UTF-8).

        Raises:
            FileNotFoundError: there is no file of that name.
        """
        with self.reading(name) as path:
            return path.read_text(encoding="utf-8")

    def write_text(self, name: str, text: str) -> None:
        """Write a small text file (UTF-8)."""
        with self.writing(name) as path:
            path.write_text(text, encoding="utf-8")

    def put(self, name: str, path: Path) -> None:
        """Copy a file of this machine to this place."""
        with self.writing(name) as target:
            shutil.copyfile(path, target)

    def write_json(self, name: str, value: Any) -> None:
        """Write JSON, indented, keys in the order given."""
        self.write_text(name, as_json(value))
