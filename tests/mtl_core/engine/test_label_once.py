"""Equal texts go through the engine once, and not at all where a cache knows the answer."""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mtl_core.config import Calibration
from mtl_core.engine.base import Labelled
from mtl_core.engine.cache import LabelCache
from mtl_core.engine.load import load_engine
from mtl_core.engine.once import Once, prepare
from mtl_core.engine.torch_engine import TorchEngine
from mtl_core.model.registry import SHIPPED_MODELS
from mtl_core.tasks import SENTIMENT

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


def label_once(
    engine: TorchEngine,
    texts: list[str],
    progress: Callable[[int], None],
    cache: LabelCache | None = None,
) -> Once:
    prepared = prepare(engine, texts, cache)
    return prepared.join(engine.label_encoded(prepared.encoded, progress))


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


def test_another_temperature_or_label_finds_nothing(engine: TorchEngine, tmp_path: Path) -> None:
    path, config = tmp_path / "cache.sqlite", engine.config
    label_once(engine, TEXTS, lambda done: None, cache_of(engine, path))
    for other in (
        replace(config, calibration={"topic": Calibration(9.0)}),
        replace(config, tasks=(replace(config.tasks[0], labels=("a", "b", "c", "d")), SENTIMENT)),
        replace(config, backbone_sha256="0" * 64),
        replace(config, max_tokens=8),
    ):
        cache = LabelCache(path, other, engine.model_sha256, "float32", 1 << 30)
        assert not cache.find(TEXTS)
    assert cache_of(engine, path).find(TEXTS)


def test_a_damaged_cache_is_done_without_and_said_once(
    engine: TorchEngine, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "cache.sqlite"
    path.write_bytes(b"no database, but something that somebody may want to keep " * 100)
    for _ in range(2):
        once = label_once(engine, TEXTS, lambda done: None, cache_of(engine, path))
        assert once.cached == 0
        assert_same(once.labelled, engine.label(TEXTS, lambda done: None))
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert str(path) in caplog.text
    assert "somebody may want" in path.read_text()


def test_a_cache_that_others_lock_or_that_has_no_room_costs_no_attempt(
    engine: TorchEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mtl_core.engine.cache.BUSY_TIMEOUT_S", 0.1)
    path = tmp_path / "cache.sqlite"
    cache = cache_of(engine, path)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        label_once(engine, TEXTS, lambda done: None, cache)
        other.execute("ROLLBACK")
    assert not cache_of(engine, path).find(TEXTS)
    (tmp_path / "file").touch()
    nowhere = cache_of(engine, tmp_path / "file" / "cache.sqlite")  # as where mkdir is refused
    assert label_once(engine, TEXTS, lambda done: None, nowhere).cached == 0


def test_an_answer_that_is_no_number_is_not_taken_from_the_cache(
    engine: TorchEngine, tmp_path: Path
) -> None:
    cache = cache_of(engine, tmp_path / "cache.sqlite")
    labelled = engine.label(TEXTS[:2], lambda done: None)
    labelled.labels[0].probabilities[1, 0] = np.nan
    cache.add(TEXTS[:2], labelled)
    assert list(cache.find(TEXTS[:2])) == [0]
