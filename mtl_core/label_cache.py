"""What was labelled before: answers by text, model and precision, in one SQLite file.

SQLite (standard library; many processes may use the file at once) rather than a cache library: the
values are fixed-size records, and all there is to do is to look up, to add and to drop the oldest.
"""

import hashlib
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np

from mtl_core.config import ModelConfig
from mtl_core.engine import Labelled, TaskLabels

# SQLite looks up at most this many keys in one statement (its oldest builds allow 999).
LOOKUP_ROWS = 900
FORMAT = 2
"""Of a record; those of another are not found."""
BUSY_TIMEOUT_S = 30.0
SCHEMA = """
CREATE TABLE IF NOT EXISTS labelled (
  number INTEGER PRIMARY KEY AUTOINCREMENT, key BLOB NOT NULL UNIQUE, answer BLOB NOT NULL
)
"""


class LabelCache:
    """Answers of one model in one precision; files of other models may be the same."""

    def __init__(
        self, path: Path, config: ModelConfig, model_sha256: str, precision: str, max_bytes: int
    ) -> None:
        self.path, self.config, self.max_bytes = path, config, max_bytes
        self._salt = hashlib.sha256(f"{FORMAT} {model_sha256} {precision}".encode()).digest()[:16]
        self._record = np.dtype(
            [
                ("tokens", "<u4"),
                ("truncated", "?"),
                *((f"task {task.name}", "<f4", len(task.labels)) for task in config.tasks),
                ("embedding", "<f4", config.embedding_size),
            ]
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        with closing(self._connect()) as database:
            database.execute("PRAGMA journal_mode=WAL")
            database.execute(SCHEMA)

    def find(self, texts: Sequence[str]) -> dict[int, np.void]:
        """Answers that are there, by the number of the text in ``texts``."""
        keys = {self._key(text): row for row, text in enumerate(texts)}
        found: dict[int, np.void] = {}
        wanted = list(keys)
        with closing(self._connect()) as database:
            for start in range(0, len(wanted), LOOKUP_ROWS):
                some = wanted[start : start + LOOKUP_ROWS]
                marks = ",".join("?" * len(some))
                query = f"SELECT key, answer FROM labelled WHERE key IN ({marks})"
                for key, answer in database.execute(query, some):
                    if len(answer) == self._record.itemsize:
                        found[keys[key]] = np.frombuffer(answer, self._record)[0]
        return found

    def add(self, texts: Sequence[str], labelled: Labelled) -> None:
        """Keep the answers to texts; those that memory did not suffice for are left out."""
        records = self._records(labelled)
        wrong = set(labelled.too_large)
        rows = [
            (self._key(text), records[row].tobytes())
            for row, text in enumerate(texts)
            if row not in wrong
        ]
        with closing(self._connect()) as database, database:
            database.executemany("INSERT OR IGNORE INTO labelled (key, answer) VALUES (?, ?)", rows)
            self._drop_oldest(database)

    def joined(self, found: Mapping[int, np.void], rest: Sequence[int], new: Labelled) -> Labelled:
        """Answers found, by their rows, and new ones for the rows of ``rest``, as one answer."""
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
        """Keep the file within its limit: the oldest tenth goes, again and again, at the limit."""
        (size,) = database.execute("PRAGMA page_size").fetchone()
        dropped = 1
        while dropped:  # an empty table has pages, too
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

    def _connect(self) -> sqlite3.Connection:
        return sqlite3.connect(self.path, timeout=BUSY_TIMEOUT_S)
