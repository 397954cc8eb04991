"""Copy model directories between this machine and an object store.

In a store ``config.json`` is put last: a directory without it does not count as a model. Checksums
lie beside the weights, as ``sha256sum`` writes them, the weights' in the first line: a machine that
already has these weights need not copy them again.
"""

import hashlib
import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

from mtl_core.errors import ModelError
from mtl_core.files import file_sha256
from mtl_core.model.config import CONFIG, TYPICALITY, WEIGHTS
from mtl_core.storage.place import Place

CHECKSUM = f"{WEIGHTS}.sha256"


def local_copy(home: Place, copies: Path, sha256: str = "") -> Path:
    """The local copy of a model directory in an object store; made now if there is none.

    Copies are kept by the checksums of weights, ``config.json`` and what else is listed, so that
    one copy serves all workers of a machine, and a changed model is copied anew.

    Args:
        sha256: SHA-256 of the wanted weights. If a copy of them is there, it is returned, even if
            the store holds other weights by now.
    Raises:
        ModelError: the store holds no model there, or its weights do not have their checksum.
        StoreError: the store refuses or does not answer.
    """
    try:
        config = home.read_text(CONFIG)
    except FileNotFoundError as error:
        raise ModelError(f"{home} is no model directory: it holds no {CONFIG}") from error
    said, others = "", ""
    with suppress(FileNotFoundError):
        first, _, others = home.read_text(CHECKSUM).partition("\n")
        said = first.split()[0]
    for known in (sha256, said):
        if known and (folder := _folder(copies, known, config + others)).is_dir():
            return folder
    copies.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=copies, prefix=".copying-") as made:
        building = Path(made)
        for name in home.names():
            with home.reading(name) as path:
                shutil.copyfile(path, building / name)
        if not (building / WEIGHTS).is_file():
            raise ModelError(f"{home} is no model directory: it holds no {WEIGHTS}")
        actual = file_sha256(building / WEIGHTS)
        if said and actual != said:
            raise ModelError(f"{home.at(WEIGHTS)} is damaged: its sha256 is not that of {CHECKSUM}")
        config = (building / CONFIG).read_text(encoding="utf-8")
        folder = _folder(copies, actual, config + others)
        os.chmod(building, 0o755)
        with suppress(OSError):  # another worker was quicker
            os.rename(building, folder)
            building.mkdir()  # because the context removes a folder of this name at its end
    return folder


def _folder(copies: Path, sha256: str, others: str) -> Path:
    return copies / f"{sha256[:16]}-{hashlib.sha256(others.encode()).hexdigest()[:12]}"


def publish(folder: Path, home: Place) -> None:
    """Put a finished model directory into an object store; it counts as a model only at the end."""
    paths = [p for p in sorted(folder.rglob("*")) if p.is_file()]
    for path in paths:
        name = path.relative_to(folder).as_posix()
        if name != CONFIG:
            home.put(name, path)
    listed = [name for name in (WEIGHTS, TYPICALITY) if (folder / name).is_file()]
    home.write_text(CHECKSUM, "".join(f"{file_sha256(folder / n)}  {n}\n" for n in listed))
    home.put(CONFIG, folder / CONFIG)
