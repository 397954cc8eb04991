"""Label jobs from the request to the finished output in this process: all is real but the engine.

Labels are made up, so that a job takes a fraction of a second.
"""

import uuid
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from jobs.label.again import label_job_of
from jobs.label.append import NothingNew, prepare_append
from jobs.label.finalise import finalise
from jobs.label.request import LabelJob, LabelRequest, prepare_label
from jobs.label.staging import read_texts
from jobs.label.submit import open_again, open_label, plan_label
from jobs.ledger.ledger import Ledger
from jobs.ledger.messages import Publisher
from jobs.ledger.presence import Presence
from jobs.output.layout import mark, part_name
from jobs.settings import Settings
from jobs.specs import LabelSpec
from mtl_core.engine.base import Labelled, TaskLabels
from mtl_core.storage.parquet import put_table
from mtl_core.tasks import Task
from worker.label import with_labels

WORKER = "host:1:a"


class Usual:
    """Statistics by which every row is typical."""

    def typicality(self, embeddings: np.ndarray) -> np.ndarray:
        return np.ones(len(embeddings), np.float32)


def labelled(spec: LabelSpec, rows: int) -> Labelled:
    """What an engine might say of so many texts."""
    answers = []
    for name, labels in spec.tasks:
        scores = np.full((rows, len(labels)), 0.1, np.float32)
        scores[:, 0] = 0.7
        answers.append(TaskLabels(Task(name, labels), scores))
    vectors = np.zeros((rows, spec.embedding_size), np.float32)
    vectors[np.arange(rows), np.arange(rows) % spec.embedding_size] = 1
    return Labelled(tuple(answers), vectors, np.zeros(rows, bool), np.full(rows, 3))


@dataclass
class MadeJobs:
    """Submits jobs and does their shards."""

    url: str
    folder: Path
    poison: set[str] = field(default_factory=set)
    """Texts that no worker can label."""
    reason: str = "it broke"

    def __post_init__(self) -> None:
        self.settings = Settings(lease_s=600, max_attempts=1)
        self.ledger, self.publisher = Ledger(self.url, self.settings), Publisher(self.url)
        Presence(self.ledger.redis).announce(WORKER, 600)

    def request(
        self, *inputs: Path | str, output: str | Path = "out", **asked: Any
    ) -> LabelRequest:
        where = output if "://" in str(output) else self.folder / output
        named = tuple(map(str, inputs))
        return LabelRequest(named, str(where), **{"model": "default", "shard_rows": 4, **asked})

    def label(self, *inputs: Path | str, **asked: Any) -> LabelJob:
        """Make an output."""
        job = prepare_label(self.request(*inputs, **asked), self.settings)
        self.run(job)
        return job

    def append(self, *inputs: Path | str, **asked: Any) -> LabelJob | NothingNew:
        """Append to it what is new."""
        job = self.prepare(*inputs, **asked)
        if isinstance(job, LabelJob):
            self.run(job)
        return job

    def prepare(self, *inputs: Path | str, **asked: Any) -> LabelJob | NothingNew:
        """What would be appended."""
        return prepare_append(self.request(*inputs, **asked), self.settings)

    def run(self, job: LabelJob) -> None:
        """Submit a job and bring it to its end."""
        self.submit(job)
        self.work(job)
        finalise(self.ledger, job.id)

    def submit(self, job: LabelJob) -> None:
        """Open and plan a job."""
        open_label(self.ledger, job, "normal")
        plan_label(self.ledger, self.publisher, job, lambda: None)

    def retry(self, job: LabelJob) -> None:
        """As ``mtl retry`` does."""
        again = label_job_of(job.id, self.ledger.spec(job.id))  # type: ignore[arg-type]
        open_again(self.ledger, again)
        plan_label(self.ledger, self.publisher, again, lambda: None)
        self.work(again)
        finalise(self.ledger, again.id)

    def work(self, job: LabelJob) -> None:
        """Do all shards, split ones too, and those set aside."""
        while waiting := self.waiting(job):
            for shard in waiting:
                self.do(job, shard)

    def waiting(self, job: LabelJob) -> list[str]:
        over = {*self.ledger.results(job.id), *self.ledger.poisoned(job.id)}
        return [name for name in self.ledger.shards(job.id) if name not in over]

    def do(self, job: LabelJob, shard: str) -> None:
        token = uuid.uuid4().hex
        claim = self.ledger.claim(job.id, shard, token, WORKER)
        if claim.answer == "DOUBTED":
            claim = self.ledger.claim(job.id, shard, token, WORKER, insist=True)
        assert claim.answer == "LEASED", claim
        assert claim.shard is not None
        table, texts = read_texts(job.output, claim.shard)
        if self.poison.intersection(texts):
            self.ledger.fail(job.id, shard, token, self.reason)
            return
        statistics: Any = {name: Usual() for name, _ in job.spec.tasks}
        made = with_labels(table, labelled(job.spec, len(texts)), job.spec, statistics)
        part = part_name(shard, claim.attempt, token)
        written = put_table(job.output, part, made, mark(job.id))
        counts = dict.fromkeys(("failed", "truncated", "duplicates", "cached"), 0)
        result = {"part": part, "rows": len(made), "errors": "", "sha256": written.sha256}
        result |= {"worker": WORKER, "engine": "made", "precision": "float32", "tokens": 3}
        self.ledger.complete(job.id, shard, token, result | counts)

    def close(self) -> None:
        with suppress(Exception):
            self.publisher.close()
