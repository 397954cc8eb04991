"""A cache of answers: found by the text and all else that decides them, in one SQLite file.

The cache is best effort: if the file cannot be used, labelling goes on without it and says so once.

SQLite (standard library; many processes may use the file at once) rather than a cache library: the
values are fixed-size records, and a look-up, an insert and dropping the oldest are all it needs.
"""

import hashlib
import json
import logging
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from mtl_core import __version__
from mtl_core.config import ModelConfig
from mtl_core.engine.base import Labelled, TaskLabels

# SQLite looks up at most this many keys in one statement (its oldest builds allow 999).
LOOKUP_ROWS = 900
FORMAT = 3
"""Format of a record; records of another format are not found."""
BUSY_TIMEOUT_S = 5.0
UNUSABLE = (sqlite3.Error, OSError)
SCHEMA = """
CREATE TABLE IF NOT EXISTS labelled (
  number INTEGER PRIMARY KEY AUTOINCREMENT, key BLOB NOT NULL UNIQUE, answer BLOB NOT NULL
)
"""


_said: set[str] = set()
"""The reasons why a cache could not be used that this process has logged already."""

log = logging.getLogger(__name__)


class LabelCache:
    """The cached answers of one model in one engine; its file may hold those of others, too."""

    def __init__(
        self, path: Path, config: ModelConfig, model_sha256: str, identity: str, max_bytes: int
    ) -> None:
        """Open the file, or make it.

        Args:
            identity: the engine's ``identity``: all that decides the numbers, apart from the model.
            max_bytes: limit for the size of the file.
        """
        self.path, self.config, self.max_bytes = path, config, max_bytes
        made_of = [FORMAT, model_sha256, identity, __version__, _decides(config)]
        self._salt = hashlib.sha256(json.dumps(made_of).encode()).digest()[:16]
        self._record = np.dtype(
            [
                ("tokens", "<u4"),
                ("truncated", "?"),
                *((f"task {task.name}", "<f4", len(task.labels)) for task in config.tasks),
                ("embedding", "<f4", config.embedding_size),
            ]
        )
        self._usable = True
        with self._best_effort():
            path.parent.mkdir(parents=True, exist_ok=True)
            with closing(self._connect()) as database:
                database.execute("PRAGMA journal_mode=WAL")
                database.execute(SCHEMA)

    def find(self, texts: Sequence[str]) -> dict[int, np.void]:
        """Look texts up; return the answers that were found, by the text's place in ``texts``."""
        found: dict[int, np.void] = {}
        if self._usable:
            with self._best_effort():
                self._look_up(texts, found)
        return found

    def _look_up(self, texts: Sequence[str], found: dict[int, np.void]) -> None:
        keys = {self._key(text): row for row, text in enumerate(texts)}
        wanted = list(keys)
        with closing(self._connect()) as database:
            for start in range(0, len(wanted), LOOKUP_ROWS):
                some = wanted[start : start + LOOKUP_ROWS]
                marks = ",".join("?" * len(some))
                query = f"SELECT key, answer FROM labelled WHERE key IN ({marks})"
                whole = [
                    (keys[key], answer)
                    for key, answer in database.execute(query, some)
                    if len(answer) == self._record.itemsize
                ]
                records = np.frombuffer(b"".join(answer for _, answer in whole), self._record)
                usable = self._are_numbers(records)
                found |= {
                    row: record
                    for (row, _), record, good in zip(whole, records, usable, strict=True)
                    if good
                }

    def _are_numbers(self, records: np.ndarray) -> np.ndarray:
        names = ["embedding", *(f"task {task.name}" for task in self.config.tasks)]
        finite = np.ones(len(records), dtype=bool)
        for name in names:
            finite &= np.isfinite(records[name]).all(axis=1)
        return finite

    def add(self, texts: Sequence[str], labelled: Labelled) -> None:
        """Keep the answers to texts, except to those that were too large for memory."""
        records = self._records(labelled)
        wrong = set(labelled.too_large)
        rows = [
            (self._key(text), records[row].tobytes())
            for row, text in enumerate(texts)
            if row not in wrong
        ]
        if not self._usable:
            return
        insert = "INSERT OR IGNORE INTO labelled (key, answer) VALUES (?, ?)"
        with self._best_effort(), closing(self._connect()) as database, database:
            database.executemany(insert, rows)
            self._drop_oldest(database)

    def joined(self, found: Mapping[int, np.void], rest: Sequence[int], new: Labelled) -> Labelled:
        """Join the answers that were found, by row, with the new answers, for the rows ``rest``."""
        records = np.empty(len(found) + len(rest), dtype=self._record)
        records[list(rest)] = self._records(new)
        for row, record in found.items():
            records[row] = record
        labels = tuple(
            TaskLabels(task, records[f"task {task.name}"].copy()) for task in self.config.tasks
        )
        return Labelled(
            labels,
            records["embedding"].copy(),
            records["truncated"].copy(),
            records["tokens"].astype(np.int64),
            tuple(rest[row] for row in new.too_large),
        )

    def _records(self, labelled: Labelled) -> np.ndarray:
        records = np.zeros(len(labelled.embeddings), dtype=self._record)
        records["tokens"], records["truncated"] = labelled.lengths, labelled.truncated
        for answer in labelled.labels:
            records[f"task {answer.task.name}"] = answer.probabilities
        records["embedding"] = labelled.embeddings
        return records

    def _drop_oldest(self, database: sqlite3.Connection) -> None:
        """Keep the file within its limit: drop the oldest tenth until the rest fits."""
        (size,) = database.execute("PRAGMA page_size").fetchone()
        dropped = 1
        while dropped:  # an empty table has pages, too, and nothing more to drop
            (pages,) = database.execute("PRAGMA page_count").fetchone()
            (free,) = database.execute("PRAGMA freelist_count").fetchone()
            if (pages - free) * size <= self.max_bytes:
                return
            dropped = database.execute(
                "DELETE FROM labelled WHERE number <= (SELECT min(number) + (max(number) - "
                "min(number) + 1) / 10 FROM labelled)"
            ).rowcount

    def _key(self, text: str) -> bytes:
        return hashlib.blake2b(text.encode(), digest_size=16, key=self._salt).digest()

    @contextmanager
    def _best_effort(self) -> Iterator[None]:
        """Go on without the file, from now on, if it turns out to be damaged, locked or full."""
        try:
            yield
        except UNUSABLE as error:
            self._usable = False
            if (reason := f"{self.path}: {error}") not in _said:
                _said.add(reason)
                log.warning(
                    "%s; labelling goes on without this cache. If it is damaged, remove it", reason
                )

    def _connect(self) -> sqlite3.Connection:
        return sqlite3.connect(self.path, timeout=BUSY_TIMEOUT_S)


def _decides(config: ModelConfig) -> list[Any]:
    """The part of a model's configuration that decides answers: two models may share weights."""
    return [
        config.backbone,
        config.backbone_sha256,
        config.max_tokens,
        config.embedding_size,
        [
            [task.name, task.labels, config.calibration_of(task.name).temperature]
            for task in config.tasks
        ],
    ]
