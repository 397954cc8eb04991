"""The labelling engine: texts in, classes, scores and embeddings out, each text encoded once.

Texts are tokenised, sorted by length and packed into batches by a budget of tokens (padding
counted), so that a batch costs the same whether it holds many short texts or few long ones.
"""

import logging
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from mtl_core.config import ModelConfig
from mtl_core.engine.faults import is_out_of_memory
from mtl_core.model.batches import token_batches
from mtl_core.model.tokenizer import Tokenizer
from mtl_core.tasks import Task
from mtl_core.token_ids import TokenIds

EMBEDDING_OUTPUT = "sentence_embedding"
"""Name of the embedding among an exported graph's outputs."""

GROW_AFTER = 256
"""So many batches must go well before a smaller batch is made larger again."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TaskLabels:
    """One task's answer for N texts."""

    task: Task
    probabilities: NDArray[np.float32]
    """Calibrated, float32 [N, C]."""

    @property
    def classes(self) -> NDArray[np.int64]:
        """Index of the most probable class, int64 [N]."""
        classes: NDArray[np.int64] = self.probabilities.argmax(axis=1)
        return classes

    @property
    def scores(self) -> NDArray[np.float32]:
        """Probability of the most probable class, float32 [N]."""
        scores: NDArray[np.float32] = self.probabilities.max(axis=1, initial=0)
        return scores


@dataclass(frozen=True)
class Labelled:
    """The engine's answer for N texts, in the order given."""

    labels: tuple[TaskLabels, ...]
    embeddings: NDArray[np.float32]
    """Unit vectors, float32 [N, E]."""
    truncated: NDArray[np.bool_]
    """Whether the text had more tokens than the model reads, bool [N]."""
    lengths: NDArray[np.int64]
    """Tokens of each text that the model read, special tokens included, int64 [N]."""
    too_large: tuple[int, ...] = ()
    """Texts that were too large for memory even alone; their answers mean nothing."""

    def take(self, rows: NDArray[np.int64]) -> "Labelled":
        """The answers of some texts, in the order of ``rows``; a text may come more than once."""
        labels = tuple(TaskLabels(a.task, a.probabilities[rows]) for a in self.labels)
        too_large = np.flatnonzero(np.isin(rows, self.too_large))
        return Labelled(
            *(labels, self.embeddings[rows], self.truncated[rows], self.lengths[rows]),
            tuple(too_large.tolist()),
        )


@dataclass(frozen=True)
class Encoded:
    """N texts as token ids, as an engine takes them."""

    ids: TokenIds
    """Not more tokens of a text than the model reads."""
    truncated: NDArray[np.bool_]
    """Whether the text had more tokens, bool [N]."""


Forward = tuple[NDArray[np.float32], Mapping[str, NDArray[np.float32]]]
"""A batch's answer: embeddings [B, E], and by task the probabilities [B, C]."""

Pending = Callable[[], Forward]
"""A batch under way: a function, to be called once, that waits for the batch's answer."""

Given = TypeVar("Given", Forward, Pending)


class Engine(ABC):
    """Labels texts; built once and kept. Subclasses start one batch in :meth:`start`."""

    name: str
    in_flight: int = 1
    """How many batches are under way at once; while they are computed, the next is padded."""
    alike: float = 0.0
    """Tokens of a batch's shortest text, at least, as a share of its longest text's."""

    def __init__(
        self,
        config: ModelConfig,
        tokenizer: Tokenizer,
        model_sha256: str,
        precision: str,
        batch_tokens: int,
    ) -> None:
        self.config, self.tokenizer = config, tokenizer
        self.model_sha256, self.precision = model_sha256, precision
        self.identity = f"{self.name} {precision}"
        """Name of all that decides the numbers, apart from the model."""
        self.set_batches(batch_tokens, self.in_flight)

    def set_batches(self, tokens: int, in_flight: int) -> None:
        """Set how large batches are, and how many may be under way."""
        self.batch_tokens = tokens
        """Padded tokens in one batch; halved when memory does not suffice."""
        self.in_flight = in_flight
        self._usual = tokens, in_flight
        self._good, self._patience = 0, GROW_AFTER

    @abstractmethod
    def start(self, batch: TokenIds) -> Pending:
        """Begin to label one batch; at most ``in_flight`` batches at a time.

        Raises:
            MemoryError, RuntimeError: memory is short (see :mod:`~mtl_core.engine.faults`).
                Calling the answer may raise them, too.
        """

    def release_memory(self) -> None:  # noqa: B027
        """Free the memory that a too large batch left behind."""

    def label(self, texts: Sequence[str], progress: Callable[[int], None]) -> Labelled:
        """Label texts in the order given.

        Args:
            texts: N texts.
            progress: called after each batch with the number of texts done so far; an exception
                it raises ends the call.
        Raises:
            FloatingPointError: an answer holds NaN or infinity.
        """
        return self.label_encoded(self.encode(texts), progress)

    def encode(self, texts: Sequence[str]) -> Encoded:
        """Tokenise texts; another thread may do so while :meth:`label_encoded` runs."""
        # Texts are cut one token after what the model reads: that token shows which are too long.
        limit = self.tokenizer.max_tokens
        ids = self.tokenizer(texts, limit + 1)
        return Encoded(ids.cut(limit), ids.lengths > limit)

    def label_encoded(self, encoded: Encoded, progress: Callable[[int], None]) -> Labelled:
        """Label texts given as token ids, as :meth:`label` does."""
        self._grow_back()
        ids, lengths = encoded.ids, encoded.ids.lengths
        run = _Run(
            progress,
            lengths,
            np.zeros((len(ids), self.config.embedding_size), dtype=np.float32),
            {t.name: np.zeros((len(ids), len(t.labels)), np.float32) for t in self.config.tasks},
            deque(token_batches(lengths, self.batch_tokens, self.alike)),
        )
        try:
            while run.waiting or run.under_way:
                if run.waiting and len(run.under_way) < self.in_flight:
                    self._submit(run, ids)
                else:
                    self._collect(run)
        finally:  # after an exception nothing may be left running that the next call would meet
            for _, answer in run.under_way:
                with suppress(Exception):
                    answer()
        labels = tuple(TaskLabels(t, run.probabilities[t.name]) for t in self.config.tasks)
        found = labels, run.embeddings, encoded.truncated, lengths, tuple(run.too_large)
        demand_numbers(labelled := Labelled(*found))
        return labelled

    def _submit(self, run: "_Run", ids: TokenIds) -> None:
        """Start the next batch."""
        rows = run.waiting.popleft()
        batch = ids.take(rows)
        pending = self._unless_short(run, rows, lambda: self.start(batch))
        if pending is not None:
            run.under_way.append((rows, pending))

    def _collect(self, run: "_Run") -> None:
        """Wait for the answer of the batch that was started first."""
        rows, pending = run.under_way.popleft()
        answer = self._unless_short(run, rows, pending)
        if answer is not None:
            self._good += 1
            run.embeddings[rows], probabilities = answer
            for task, values in probabilities.items():
                run.probabilities[task][rows] = values
            run.settle(rows)

    def _unless_short(
        self, run: "_Run", rows: NDArray[np.int64], step: Callable[[], Given]
    ) -> Given | None:
        """A step's result, or None if memory ran out: its rows then wait again or are set aside."""
        try:
            return step()
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
        if self.in_flight > 1 or len(rows) > 1:
            run.waiting = self._with_less_memory(rows, run.waiting, run.lengths)
        else:
            run.too_large.append(int(rows[0]))
            run.settle(rows)
        return None

    def _with_less_memory(
        self,
        rows: NDArray[np.int64],
        waiting: deque[NDArray[np.int64]],
        lengths: NDArray[np.int64],
    ) -> deque[NDArray[np.int64]]:
        """Use less memory from now on: one batch at a time; if it is so already, smaller batches.

        Returns:
            the batches that wait now: those of ``rows``, then those of ``waiting``.
        """
        self.release_memory()
        self._good, self._patience = 0, 2 * self._patience
        if self.in_flight > 1:
            self.in_flight = 1
            log.warning("out of memory: one batch at a time from now on")
            return deque([rows, *waiting])
        padded = len(rows) * int(lengths[rows].max())
        self.batch_tokens = max(1, min(self.batch_tokens, padded) // 2)
        log.warning("out of memory: batches of %d tokens from now on", self.batch_tokens)
        remaining = np.concatenate([rows, *waiting])
        batches = token_batches(lengths[remaining], self.batch_tokens, self.alike)
        return deque(remaining[batch] for batch in batches)

    def _grow_back(self) -> None:
        """Use more memory again if it has sufficed for long: another process may have needed it.

        After each shortage twice as many batches must have gone well: where a size never fits, it
        is tried more and more seldom.
        """
        tokens, in_flight = self._usual
        if self._good < self._patience or (self.batch_tokens, self.in_flight) == self._usual:
            return
        self._good = 0
        if self.batch_tokens < tokens:
            self.batch_tokens = min(2 * self.batch_tokens, tokens)
        else:
            self.in_flight = in_flight
        log.info("memory sufficed: batches of %d tokens again", self.batch_tokens)


@dataclass
class _Run:
    """One call of :meth:`Engine.label_encoded`: what waits, what is under way, the answers."""

    progress: Callable[[int], None]
    lengths: NDArray[np.int64]
    embeddings: NDArray[np.float32]
    probabilities: dict[str, NDArray[np.float32]]
    waiting: deque[NDArray[np.int64]]
    under_way: deque[tuple[NDArray[np.int64], Pending]] = field(default_factory=deque)
    too_large: list[int] = field(default_factory=list)
    done: int = 0

    def settle(self, rows: NDArray[np.int64]) -> None:
        """Count rows that have their answer, or will get none."""
        self.done += len(rows)
        self.progress(self.done)


def without_numbers(labelled: Labelled) -> NDArray[np.int64]:
    """Texts whose answer holds NaN or infinity, except those that were too large."""
    found = [labelled.embeddings, *(answer.probabilities for answer in labelled.labels)]
    wrong = np.any([~np.isfinite(values).all(axis=1) for values in found], axis=0)
    return np.setdiff1d(np.flatnonzero(wrong), labelled.too_large)


def demand_numbers(labelled: Labelled) -> None:
    """Check that the answers are numbers: a text with NaN would be given the first class.

    Raises:
        FloatingPointError: an answer holds NaN or infinity.
    """
    wrong = without_numbers(labelled)
    if len(wrong):
        raise FloatingPointError(
            f"the engine gave no numbers (NaN) for {len(wrong):,} of {len(labelled.lengths):,} "
            "texts; the model's weights are damaged, or this machine's arithmetic is"
        )
