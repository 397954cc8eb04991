"""A prefix of an object store as a :class:`~mtl_core.storage.place.Place`, by obstore.

Credentials, region and endpoint come from the environment (``AWS_ACCESS_KEY_ID``,
``AWS_SECRET_ACCESS_KEY``, ``AWS_REGION``, ``AWS_ENDPOINT_URL``, or the machine's role) and from
nowhere else. A store that does not answer is asked again after pauses that grow and vary.
"""

import errno
import logging
import os
import random
import re
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import cache, cached_property
from pathlib import Path
from typing import Any, TypeVar

from mtl_core.errors import StoreError, StoreUnreachableError
from mtl_core.storage.place import Place

log = logging.getLogger(__name__)

CONNECT_TIMEOUT_S = 5
# For one request. A large object is put in pieces of 5 MB, each with a request of its own.
REQUEST_TIMEOUT_S = 30
CHUNK_BYTES = 4 << 20
MAX_PAUSE_S = 5.0
# The answer to a HEAD request has no body, so its status is all that can be read.
STATUS = re.compile(r"status code: (\d{3})")
CODE = re.compile(r"<Code>(\w+)</Code>")

T = TypeVar("T")


@dataclass(frozen=True)
class Bucket(Place):
    """The objects of a store whose addresses begin with ``scheme://bucket/prefix/``."""

    address: str
    patience_s: float
    transfers = 8

    def __str__(self) -> str:
        return self.address

    def at(self, name: str) -> str:
        return f"{self.address}/{name}" if name else self.address

    def below(self, name: str) -> "Bucket":
        return Bucket(self.at(name), self.patience_s)

    def beside(self, name: str) -> "Bucket":
        """A place in the folder that this one is in."""
        return Bucket(f"{self.address.rpartition('/')[0]}/{name}", self.patience_s)

    @cached_property
    def _root(self) -> tuple[str, str]:
        """``scheme://bucket`` and the prefix."""
        scheme, _, rest = self.address.partition("://")
        bucket, _, prefix = rest.partition("/")
        return f"{scheme}://{bucket}", prefix

    @property
    def _store(self) -> Any:
        return store_of(self._root[0], self.patience_s)

    def _key(self, name: str) -> str:
        return "/".join(part for part in (self._root[1], name) if part)

    def has(self, name: str) -> bool:
        try:
            self._try(name, lambda: self._store.head(self._key(name)))
        except FileNotFoundError:
            return False
        return True

    def is_file(self) -> bool:
        return bool(self._root[1]) and self.has("")

    def is_empty(self) -> bool:
        return not self._try("", lambda: next(iter(self._list("", chunk_size=1)), []))

    def names(self, folder: str = "") -> list[str]:
        found = self._try(folder, lambda: self._level(folder)["objects"])
        return sorted(self._name(item["path"]) for item in found)

    def folders(self) -> list[str]:
        found = self._try("", lambda: self._level("")["common_prefixes"])
        return sorted(self._name(path) for path in found)

    def all_names(self) -> list[str]:
        """Names of all objects, however deep, sorted."""

        def listed() -> list[str]:
            return [item["path"] for chunk in self._list("", 1000) for item in chunk]

        return sorted(self._name(key) for key in self._try("", listed))

    @contextmanager
    def reading(self, name: str) -> Iterator[Path]:
        with tempfile.NamedTemporaryFile(prefix="mtl-", suffix=Path(name).suffix) as copy:
            self._try(name, lambda: self._fetch(name, Path(copy.name)))
            yield Path(copy.name)

    @contextmanager
    def writing(self, name: str) -> Iterator[Path]:
        with tempfile.NamedTemporaryFile(prefix="mtl-", suffix=Path(name).suffix) as made:
            path = Path(made.name)
            yield path
            self._try(name, lambda: self._store.put(self._key(name), path))

    def create_text(self, name: str, text: str) -> bool:
        from obstore.exceptions import AlreadyExistsError, NotSupportedError

        key, content = self._key(name), text.encode()

        def put() -> bool:
            try:
                self._store.put(key, content, mode="create")
            except AlreadyExistsError:
                return False
            except NotSupportedError:
                if self.has(name):
                    return False
                self._store.put(key, content)
            return True

        return self._try(name, put)

    def copy(self, name: str, to: str) -> None:
        self._try(name, lambda: self._store.copy(self._key(name), self._key(to)))

    def delete(self, *names: str) -> None:
        if not names:
            return
        # The client deletes a thousand keys by one request.
        self._try("", lambda: self._store.delete([self._key(name) for name in names]))

    def delete_folder(self, folder: str) -> None:
        try:
            for chunk in self._list(folder, chunk_size=1000):
                self._store.delete([item["path"] for item in chunk])
        except Exception as error:  # any error: what is left is no part of any output
            log.warning("%s is not removed: %s", self.at(folder), self._reason(error))

    def _fetch(self, name: str, target: Path) -> None:
        with target.open("wb") as stream:
            for chunk in self._store.get(self._key(name)).stream(min_chunk_size=CHUNK_BYTES):
                stream.write(chunk)

    def _list(self, folder: str, chunk_size: int) -> Any:
        return self._store.list(f"{self._key(folder)}/".lstrip("/"), chunk_size=chunk_size)

    def _level(self, folder: str) -> Any:
        return self._store.list_with_delimiter(f"{self._key(folder)}/".lstrip("/"))

    def _name(self, key: str) -> str:
        return key.removeprefix(self._root[1]).lstrip("/")

    def _try(self, name: str, call: Callable[[], T]) -> T:
        """Make a call, and make it again while the store does not answer; return its answer.

        obstore itself repeats a request. The loop here is for failures that obstore does not
        repeat, such as a connection that is cut in the middle of an object.

        Raises:
            FileNotFoundError: there is no such object.
            StoreError: the store refuses.
            StoreUnreachableError: the store did not answer within ``patience_s``.
        """
        from obstore.exceptions import BaseError, GenericError

        deadline = time.monotonic() + self.patience_s
        pause = 0.5
        while True:
            try:
                return call()
            except FileNotFoundError as error:
                if "<Code>NoSuchBucket</Code>" in str(error):
                    raise StoreError(errno.ENOENT, self._reason(error), self.at(name)) from None
                raise FileNotFoundError(errno.ENOENT, "no such object", self.at(name)) from None
            except GenericError as error:
                if _is_final(error):
                    raise StoreError(errno.EACCES, self._reason(error), self.at(name)) from None
                if time.monotonic() + pause > deadline:
                    raise StoreUnreachableError(
                        errno.EHOSTUNREACH, self._reason(error), self.at(name)
                    ) from None
                log.warning("%s: %s; asking again", self.at(name), self._reason(error))
            except BaseError as error:
                raise StoreError(errno.EACCES, self._reason(error), self.at(name)) from None
            time.sleep(random.uniform(0.5, 1) * pause)
            pause = min(2 * pause, MAX_PAUSE_S)

    def _reason(self, error: Exception) -> str:
        """The reason for an error, by its code or status only: the full text shows the request."""
        text = str(error)
        if code := CODE.search(text):
            return f"the store refuses ({code[1]})"
        if status := STATUS.search(text):
            words = {"403": "access denied", "401": "no valid credentials"}
            return f"the store refuses ({words.get(status[1], 'HTTP status ' + status[1])})"
        return "the store does not answer"


def _is_final(error: Exception) -> bool:
    """Whether asking again would give the same answer."""
    status = STATUS.search(str(error))
    return status is not None and status[1].startswith("4") and status[1] not in ("408", "429")


@cache
def store_of(root: str, patience_s: float) -> Any:
    """The client of one bucket; each process makes it once."""
    from obstore import store

    open_store: Any = store.from_url  # its overloads want each scheme's options spelled out
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    given = {"endpoint": endpoint} if root.startswith("s3://") and endpoint else {}
    return open_store(
        root,
        client_options={
            "allow_http": bool(endpoint) and str(endpoint).startswith("http://"),
            "connect_timeout": timedelta(seconds=CONNECT_TIMEOUT_S),
            "timeout": timedelta(seconds=REQUEST_TIMEOUT_S),
        },
        retry_config={
            "max_retries": 1000,
            "retry_timeout": timedelta(seconds=patience_s),
            "backoff": {
                "init_backoff": timedelta(milliseconds=100),
                "max_backoff": timedelta(seconds=MAX_PAUSE_S),
            },
        },
        **given,
    )
