"""The ways to run a batch on a GPU, and which of them is the fastest on this one.

Padded texts in large batches need the fewest calls. Packed texts need no padding and no mask, but a
kernel that not every card has. A recorded run (a CUDA graph) costs one call instead of hundreds, so
that small batches, which stay in the card's cache, pay; all of them then have the same shape. What
that is worth depends on card, driver and model. So each way is tried when an engine is loaded, and
one that fails, or gives other answers than padded texts, is not taken.
"""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mtl_core.engine.base import Encoded, Engine
from mtl_core.engine.faults import is_lasting
from mtl_core.engine.graph import LabelGraph
from mtl_core.engine.packed import ATTENTION, PackedGraph, can_pack, pack
from mtl_core.model.precision import on_device
from mtl_core.token_ids import TokenIds

Run = Callable[[TokenIds], Sequence[Tensor]]
"""A function that queues one batch on the device: embedding and probabilities, a row a text."""

BATCH_TOKENS = 65536
"""Tokens of one batch that fills a large card."""
CACHED_TOKENS = 16384
"""Tokens of one batch whose widest activations, 50 MB, stay in an H100's second-level cache."""
TEXT_TOKENS = 8
"""A recorded run has room for a text of so many tokens on average; more texts are not recorded."""

SAMPLE_TOKENS = 131072
ENOUGH_S = 2.0
"""If the first way takes longer for the sample, the card's arithmetic is the limit."""
SAME_COSINE = 0.99
"""What embeddings of two ways have in common at least, each rounded in half precision."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Way:
    """A way to run batches."""

    name: str
    batch_tokens: int
    in_flight: int
    make: Callable[[], Run]


def ways(graph: LabelGraph, precision: str, pad: Run, device: torch.device) -> Iterator[Way]:
    """The ways that a model may be run, the one that always works first.

    Args:
        pad: runs padded texts.
    """
    yield Way("padded", BATCH_TOKENS, 2, lambda: pad)
    yield Way("padded", CACHED_TOKENS, 4, lambda: pad)
    if can_pack(graph.model.encoder.backbone, precision):
        for tokens, in_flight in ((BATCH_TOKENS, 2), (CACHED_TOKENS, 4)):
            yield Way("packed", tokens, in_flight, partial(PackedRun, graph, device))
            yield Way("recorded", tokens, in_flight, partial(Recorded, graph, device, tokens))


class PackedRun:
    """Runs packed texts, as many as come."""

    def __init__(self, graph: LabelGraph, device: torch.device) -> None:
        encoder = graph.model.encoder
        encoder.backbone.set_attn_implementation(ATTENTION)  # type: ignore[operator]
        self.graph = PackedGraph(graph, encoder.tokenizer.max_tokens)
        self.device = device

    def __call__(self, batch: TokenIds) -> Sequence[Tensor]:
        found: Sequence[Tensor] = self.graph(
            *(on_device(each, self.device) for each in pack(batch).tensors)
        )
        return found


class Recorded(PackedRun):
    """Replays one recorded run: packed texts filled up to the same shape."""

    def __init__(self, graph: LabelGraph, device: torch.device, tokens: int) -> None:
        super().__init__(graph, device)
        self.tokens, self.texts = tokens, tokens // TEXT_TOKENS
        nothing = TokenIds(np.empty(0, np.int32), np.empty(0, np.int64))
        filled = pack(nothing, self.tokens, self.texts)
        self._given = [on_device(each, device) for each in filled.tensors]
        beside = torch.cuda.Stream()
        beside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(beside):  # kernels are chosen and libraries loaded before recording
            for _ in range(2):
                self.graph(*self._given)
        torch.cuda.current_stream().wait_stream(beside)
        self._recorded = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._recorded, capture_error_mode="thread_local"):
            self._found = self.graph(*self._given)

    def __call__(self, batch: TokenIds) -> Sequence[Tensor]:
        if len(batch.values) > self.tokens or len(batch) > self.texts:
            return super().__call__(batch)
        packed = pack(batch, self.tokens, self.texts)
        for kept, new in zip(self._given, packed.tensors, strict=True):
            kept.copy_(new.pin_memory(), non_blocking=True)
        self._recorded.replay()
        # Copies, since the next replay writes into the same memory; in the queue they come first.
        return [each[: len(batch)].clone() for each in self._found]


def take_fastest(
    engine: Engine, take: Callable[[Way], None], offered: Sequence[Way], sample: Encoded
) -> None:
    """Try the ways, and let an engine keep the fastest.

    Args:
        take: makes the engine run its batches in a way.
        offered: the first is the one that others are measured by.
    Raises:
        Exception: the first way failed, or one after which the GPU is of no more use.
    """
    first = offered[0]
    take(first)
    expected, seconds = _trial(engine, sample)
    best = first, seconds
    for way in offered[1:] if seconds < ENOUGH_S else ():
        try:
            take(way)
            found, seconds = _trial(engine, sample)
        except Exception as error:  # whatever a card, a driver or a library may lack
            if is_lasting(error):
                raise
            log.info("%s texts are not for this GPU: %s", way.name, str(error).split("\n")[0])
            continue
        cosine = float((expected * found).sum(axis=1).min())
        log.info("%s, %d tokens: %.3f s, cosine %.4f", way.name, way.batch_tokens, seconds, cosine)
        if cosine < SAME_COSINE:
            log.warning("%s texts give other answers on this GPU, and are not used", way.name)
        elif seconds < best[1]:
            best = way, seconds
    take(best[0])


def _trial(engine: Engine, sample: Encoded) -> tuple[NDArray[np.float32], float]:
    """Embeddings of the sample, and the seconds it took, the better of two times."""
    embeddings = engine.label_encoded(sample, lambda done: None).embeddings
    taken = []
    for _ in range(2):
        started = time.perf_counter()
        engine.label_encoded(sample, lambda done: None)
        taken.append(time.perf_counter() - started)
    return embeddings, min(taken)


def sample_of(vocabulary: int, max_tokens: int, tokens: int = SAMPLE_TOKENS) -> Encoded:
    """Drawn token ids in texts as long as news are: about 54 tokens, up to what a model reads."""
    draw = np.random.default_rng(0)
    lengths = draw.gamma(8, 54 / 8, tokens // 54).astype(np.int64).clip(3, max_tokens)
    values = draw.integers(0, vocabulary, int(lengths.sum()), dtype=np.int32)
    return Encoded(TokenIds(values, lengths), np.zeros(len(lengths), np.bool_))
