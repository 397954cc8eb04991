"""Equal texts go through the engine once, and not at all where a cache knows the answer."""

from pathlib import Path

import numpy as np
import pytest

from mtl_core.engine import Labelled
from mtl_core.engines import load_engine
from mtl_core.label_cache import LabelCache
from mtl_core.label_once import label_once
from mtl_core.registry import SHIPPED_MODELS
from mtl_core.torch_engine import TorchEngine

TEXTS = ["A goal.", "Shares fell.", "A goal.", "", "A dull film.", "Shares fell."]


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> TorchEngine:
    folder = tmp_path_factory.mktemp("e")
    loaded = load_engine(SHIPPED_MODELS / "default", "torch", "float32", cache=folder)
    assert isinstance(loaded, TorchEngine)
    return loaded


def cache_of(
    engine: TorchEngine, path: Path, max_bytes: int = 1 << 30, precision: str = "float32"
) -> LabelCache:
    return LabelCache(path, engine.config, engine.model_sha256, precision, max_bytes)


def assert_same(one: Labelled, other: Labelled) -> None:
    np.testing.assert_allclose(one.embeddings, other.embeddings, atol=1e-6)
    np.testing.assert_array_equal(one.truncated, other.truncated)
    np.testing.assert_array_equal(one.lengths, other.lengths)
    for mine, theirs in zip(one.labels, other.labels, strict=True):
        np.testing.assert_array_equal(mine.classes, theirs.classes)
        np.testing.assert_allclose(mine.scores, theirs.scores, atol=1e-6)


def test_equal_texts_are_encoded_once_and_get_the_same_answer(engine: TorchEngine) -> None:
    encoded: list[int] = []
    once = label_once(engine, TEXTS, encoded.append)
    assert (once.duplicates, once.cached, encoded[-1]) == (2, 0, 4)
    assert_same(once.labelled, engine.label(TEXTS, lambda done: None))


def test_a_second_time_everything_comes_from_the_cache(engine: TorchEngine, tmp_path: Path) -> None:
    path, encoded = tmp_path / "c" / "cache.sqlite", list[int]()
    first = label_once(engine, TEXTS, encoded.append, cache_of(engine, path))
    again = label_once(engine, TEXTS, encoded.append, cache_of(engine, path))
    assert (first.cached, again.cached, again.tokens) == (0, 4, 0)
    assert_same(again.labelled, first.labelled)
    some = label_once(engine, ["New.", *TEXTS], encoded.append, cache_of(engine, path))
    assert some.cached == 4
    assert_same(some.labelled, engine.label(["New.", *TEXTS], lambda done: None))


def test_another_precision_or_model_finds_nothing(engine: TorchEngine, tmp_path: Path) -> None:
    path = tmp_path / "cache.sqlite"
    label_once(engine, TEXTS, lambda done: None, cache_of(engine, path))
    assert not cache_of(engine, path, precision="bfloat16").find(TEXTS)
    assert not LabelCache(path, engine.config, "0" * 64, "float32", 1 << 30).find(TEXTS)


def test_a_text_too_large_for_memory_is_not_kept(engine: TorchEngine, tmp_path: Path) -> None:
    cache = cache_of(engine, tmp_path / "cache.sqlite")
    labelled = engine.label(TEXTS[:2], lambda done: None)
    wrong = Labelled(
        labelled.labels, labelled.embeddings, labelled.truncated, labelled.lengths, (1,)
    )
    cache.add(TEXTS[:2], wrong)
    assert list(cache.find(TEXTS[:2])) == [0]


def test_the_cache_stays_within_its_limit_and_drops_the_oldest(
    engine: TorchEngine, tmp_path: Path
) -> None:
    path, limit = tmp_path / "cache.sqlite", 400_000
    cache = cache_of(engine, path, limit)
    one = engine.label(["x"], lambda done: None)
    for block in range(12):
        texts = [f"{block} {row}" for row in range(100)]
        cache.add(texts, one.take(np.zeros(100, dtype=np.int64)))
    assert path.stat().st_size < limit * 1.5
    assert not cache.find(["0 0"])
    assert len(cache.find([f"11 {row}" for row in range(100)])) == 100
