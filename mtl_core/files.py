"""Small file operations that the whole project shares: atomic writes and checksums."""

import hashlib
import json
import os
import secrets
from pathlib import Path
from typing import Any


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, hexadecimal; the file is read in pieces, so memory stays flat."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def replace_file(temporary: Path, final: Path) -> None:
    """Flush a finished temporary file to disk and rename it: readers see all of it or none."""
    with temporary.open("rb") as stream:
        os.fsync(stream.fileno())
    temporary.chmod(0o644)  # safetensors writes 0600, which another user's worker could not read
    temporary.replace(final)


def temporary_beside(path: Path) -> Path:
    """A temporary path that nobody else uses, beside a file or folder that is yet to be made.

    Its name is random and not made of the process id: workers in different containers can have the
    same process id and share a folder.
    """
    return path.with_name(f".{path.name}.{secrets.token_hex(6)}.tmp")


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically, creating its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_beside(path)
    try:
        temporary.write_text(text, encoding="utf-8")
        replace_file(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def create_text(path: Path, text: str) -> bool:
    """Write a text file atomically, creating its folder, unless a file of that name exists.

    Returns:
        whether this call wrote the file; of several calls at the same moment, one does.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_beside(path)
    try:
        temporary.write_text(text, encoding="utf-8")
        with temporary.open("rb") as stream:
            os.fsync(stream.fileno())
        os.link(temporary, path)  # unlike a rename it never replaces
    except FileExistsError:
        return False
    except OSError:  # a file system without hard links
        return _create_in_place(path, text)
    finally:
        temporary.unlink(missing_ok=True)
    return True


def _create_in_place(path: Path, text: str) -> bool:
    try:
        with path.open("x", encoding="utf-8") as stream:
            stream.write(text)
    except FileExistsError:
        return False
    return True


def as_json(value: Any) -> str:
    """JSON as all files of this project hold it: indented, keys in the order given."""
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically."""
    write_text(path, as_json(value))
