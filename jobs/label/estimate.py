"""Estimating a label job's size and time: its input is read, and a few of its rows are labelled."""

import time
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jobs.label.plan import ShardCutter
from jobs.label.request import LabelJob
from jobs.roots import model_folder
from jobs.settings import settings
from mtl_core.engine.load import load_engine
from mtl_core.errors import InputError

SAMPLE_ROWS = 512


@dataclass(frozen=True)
class Estimate:
    """The size of a job, and the time that one worker like this machine would take for it."""

    rows: int
    """Rows that would be labelled."""
    bad_rows: int
    shards: int
    tokens: int
    """Special tokens included."""
    seconds: float
    engine: str
    """The engine's name and its precision."""
    tokens_per_s: float
    measured_rows: int


def estimate(job: LabelJob) -> Estimate:
    """Read the whole input as planning would, label a sample of it here, and extrapolate.

    Raises:
        InputError: the input is damaged or holds no rows.
        ModelError: the model cannot be loaded.
    """
    cutter = ShardCutter(job.spec, job.source)
    sample = Sample(SAMPLE_ROWS)
    rows = bad = shards = characters = 0
    for numbered in job.rows():
        shards += sum(1 for _ in cutter.add(numbered))
        texts = numbered.chunk.table.column(job.source.text.name)
        rows += len(texts)
        bad += len(numbered.chunk.bad)
        lengths = pc.utf8_length(texts.cast(pa.large_string()))
        characters += pc.sum(lengths).as_py() or 0
        sample.add(texts)
    shards += sum(1 for _ in cutter.rest())
    if not rows:
        raise InputError(f"{job.spec.inputs[0].name}: no row that could be labelled")
    engine, encoded, seconds = _measure(job, sample.texts)
    tokens = int(encoded / max(1, sum(map(len, sample.texts))) * characters)
    rate = encoded / seconds
    return Estimate(
        rows=rows,
        bad_rows=bad,
        shards=shards,
        tokens=tokens,
        seconds=round(tokens / rate, 1),
        engine=engine,
        tokens_per_s=round(rate, 1),
        measured_rows=len(sample.texts),
    )


def _measure(job: LabelJob, texts: list[str]) -> tuple[str, int, float]:
    """Label texts on this machine, and take the time.

    Returns:
        the engine's name with its precision, the tokens of the texts, and the seconds it took.
    """
    config = settings()
    engine = load_engine(
        model_folder(job.spec.model_dir, job.spec.model_sha256, config),
        config.engine,
        job.spec.precision,
        cache=config.engines,
        threads=config.threads,
        calibration=texts[:300],
    )
    engine.label(texts[:64], lambda done: None)  # compiling and warming up is not timed
    started = time.monotonic()
    labelled = engine.label(texts, lambda done: None)
    seconds = time.monotonic() - started
    return f"{engine.name}, {engine.precision}", int(labelled.lengths.sum()), seconds


class Sample:
    """Rows drawn evenly from a stream of unknown length (reservoir sampling, Vitter 1985)."""

    def __init__(self, size: int) -> None:
        self.size, self.texts, self._seen = size, list[str](), 0
        self._draw = np.random.default_rng(0)

    def add(self, texts: pa.ChunkedArray) -> None:
        """Offer rows to the sample."""
        numbers = np.arange(self._seen, self._seen + len(texts))
        drawn = self._draw.integers(numbers + 1)
        places = np.where(numbers < self.size, numbers, drawn)
        for index in np.flatnonzero(places < self.size):
            text = texts[int(index)].as_py()
            if places[index] == len(self.texts):
                self.texts.append(text)
            else:
                self.texts[places[index]] = text
        self._seen += len(texts)
