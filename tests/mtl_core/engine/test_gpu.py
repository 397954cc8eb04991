"""The engine and training on a real GPU; elsewhere all of it is skipped."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from loops import loop_over, settings

from mtl_core.engine.base import Labelled
from mtl_core.engine.on_gpu import BATCH_TOKENS, Way, sample_of, ways
from mtl_core.engine.torch_engine import TorchEngine
from mtl_core.model.network import load_model
from mtl_core.model.registry import SHIPPED_MODELS
from mtl_core.training.checkpoint import CheckpointFolder

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU"),
]


def new_engine(precision: str) -> TorchEngine:
    return TorchEngine(load_model(SHIPPED_MODELS / "default"), precision)


@pytest.fixture(scope="module")
def exact() -> TorchEngine:
    return new_engine("float32")


def offered(engine: TorchEngine) -> Iterator[Way]:
    return ways(engine._graph, engine.precision, engine._padded, engine.device)


def label(engine: TorchEngine, texts: list[str]) -> Labelled:
    return engine.label(texts, lambda done: None)


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_every_way_gives_the_vectors_of_float32(exact: TorchEngine, precision: str) -> None:
    sample = sample_of(30522, 256)
    expected = exact.label_encoded(sample, lambda done: None).embeddings
    engine = new_engine(precision)
    for way in list(offered(engine)):
        engine.take(way)
        for _ in range(3):  # replays must not meet each other's memory
            found = engine.label_encoded(sample, lambda done: None).embeddings
            assert (found * expected).sum(axis=1).min() > 0.99, (way.name, way.batch_tokens)


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_labels_are_those_of_float32(exact: TorchEngine, shared_data: Path, precision: str) -> None:
    texts = pq.read_table(shared_data / "ag_news/test.parquet")["text"].to_pylist()
    one, other = label(exact, texts), label(new_engine(precision), texts)
    assert (one.labels[0].classes == other.labels[0].classes).mean() >= 0.999


def test_texts_of_few_tokens_and_of_many_keep_their_order(exact: TorchEngine) -> None:
    texts = [f"{'word ' * (number % 300)}{number}" for number in range(3000)]
    texts += ["good"] * 20_000  # more texts in a batch than a recorded run has room for
    expected = label(exact, texts).embeddings
    engine = new_engine("float16")
    for way in list(offered(engine)):
        engine.take(way)
        found = label(engine, texts).embeddings
        assert (found * expected).sum(axis=1).min() > 0.99, way.name


def test_a_recorded_run_gives_the_same_bits_each_time() -> None:
    engine = new_engine("float16")
    sample = sample_of(30522, 256)
    recorded = [way for way in offered(engine) if way.name == "recorded"]
    if not recorded:
        pytest.skip("this card has no kernel for packed texts")
    engine.take(recorded[0])
    one, other = (engine.label_encoded(sample, lambda done: None) for _ in range(2))
    np.testing.assert_array_equal(one.embeddings, other.embeddings)


def test_short_memory_makes_batches_smaller_and_loses_no_text() -> None:
    engine = new_engine("float32")
    sample = sample_of(30522, 256)
    expected = engine.label_encoded(sample, lambda done: None).embeddings
    engine.set_batches(BATCH_TOKENS, 2)
    torch.cuda.empty_cache()
    free, total = torch.cuda.mem_get_info()
    torch.cuda.set_per_process_memory_fraction((total - free + 300 * 2**20) / total)
    try:
        found = engine.label_encoded(sample, lambda done: None).embeddings
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert engine.batch_tokens < BATCH_TOKENS
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_a_run_goes_on_from_a_checkpoint(
    made_data: Path, tiny_backbone: Path, tmp_path: Path
) -> None:
    config = settings(scenario="full", epochs=2, checkpoint_steps=5, dropout=0.1)
    folder = CheckpointFolder(tmp_path, "run")

    def run(stop_at: int | None) -> torch.Tensor:
        loop, model = loop_over(made_data, tiny_backbone, config, checkpoints=folder, device="cuda")
        if stop_at is not None:
            loop.pulse = _Stop(stop_at)
            with pytest.raises(InterruptedError):
                loop.run()
        else:
            loop.run()
        return model.heads["topic"].weight.detach().cpu()

    run(stop_at=12)
    resumed = run(stop_at=None)
    for file in tmp_path.iterdir():
        file.unlink()
    torch.testing.assert_close(resumed, run(stop_at=None), atol=1e-5, rtol=1e-4)


class _Stop:
    """A pulse that ends a run after so many steps."""

    def __init__(self, steps: int) -> None:
        self.left = steps

    def __call__(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise InterruptedError
