"""Paths and addresses (``s3://BUCKET/PREFIX``) as users give them, and the places they name."""

from pathlib import Path

from mtl_core.errors import SettingsError
from mtl_core.storage.bucket import Bucket
from mtl_core.storage.folder import Folder
from mtl_core.storage.place import Place

SCHEMES = ("s3", "gs", "az")
"""Schemes of object stores' addresses; only s3 is tested."""
PATIENCE_S = 15.0
"""How long a store that does not answer is waited for, unless told otherwise."""


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
    return Bucket(checked_address(str(where)), patience_s)


def absolute(place: Place) -> str:
    """A place's path from the root, or its address."""
    return str(place.path.absolute()) if isinstance(place, Folder) else str(place)


def checked_address(address: str) -> str:
    """Check an object store's address; return it without a slash at its end.

    Raises:
        SettingsError: the address has another scheme, no bucket, a password, options, or a step
            that is empty, ``.`` or ``..``.
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
        SettingsError: ``text`` is an address; only paths of this machine can be used here.
    """
    if is_address(text):
        raise SettingsError(f"{text}: give a file or folder of this machine")
    return Path(text).expanduser()
