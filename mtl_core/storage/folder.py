"""A folder of this machine as a :class:`~mtl_core.storage.place.Place`."""

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from mtl_core.files import create_text, replace_file, temporary_beside, write_text
from mtl_core.storage.place import Place


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
        try:
            with os.scandir(self.path) as entries:
                return not any(entries)
        except FileNotFoundError:
            return True
        except NotADirectoryError:  # it is a file, or what should be a folder above it is one
            return not self.path.exists()

    def names(self, folder: str = "") -> list[str]:
        found = [entry.name for entry in _entries(self.path / folder) if entry.is_file()]
        return sorted(os.path.join(folder, name) for name in found)

    def folders(self) -> list[str]:
        return sorted(entry.name for entry in _entries(self.path) if entry.is_dir())

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

    def copy(self, name: str, to: str) -> None:
        source, final = self.path / name, self.path / to
        final.parent.mkdir(parents=True, exist_ok=True)
        temporary = temporary_beside(final)
        try:
            try:
                os.link(source, temporary)  # nothing is written, and both names stay whole
            except FileNotFoundError:
                raise
            except OSError:  # a file system without hard links
                shutil.copyfile(source, temporary)
            replace_file(temporary, final)
        finally:
            temporary.unlink(missing_ok=True)  # of two names of one file, rename leaves both

    def delete(self, *names: str) -> None:
        for name in names:
            (self.path / name).unlink(missing_ok=True)

    def delete_folder(self, folder: str) -> None:
        shutil.rmtree(self.path / folder, ignore_errors=True)


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    """What lies in a folder; nothing where there is none, be it that it was just removed."""
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except (FileNotFoundError, NotADirectoryError):
        return []
