"""The engine with the real backbone: order, batches, precision, Parquet columns."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from jobs.settings import settings
from mtl_core.cores import available_cores
from mtl_core.engine.base import Pending, demand_numbers
from mtl_core.engine.choose import gpu_trouble
from mtl_core.engine.faults import is_lasting, is_out_of_memory
from mtl_core.engine.graph_folders import drop_old_graphs, graphs_in_use
from mtl_core.engine.load import load_engine
from mtl_core.engine.torch_engine import TorchEngine
from mtl_core.errors import UnknownModelError
from mtl_core.model.batches import token_batches
from mtl_core.model.network import load_model, save_model
from mtl_core.model.registry import SHIPPED_MODELS, find_model, list_models
from mtl_core.token_ids import TokenIds
from worker.engines import engine_for

TEXTS = [
    "The central bank raised interest rates again on Thursday to slow inflation.",
    "A superb film.",
    "The striker scored twice as the home side won the cup final.",
    "dull, clumsy and far too long",
    "word " * 2000,
]


@pytest.fixture(scope="module")
def engine() -> TorchEngine:
    return TorchEngine(load_model(SHIPPED_MODELS / "default"), precision="float32")


def test_labels_and_embeddings_come_in_the_order_of_the_texts(engine: TorchEngine) -> None:
    forward = engine.label(TEXTS, lambda done: None)
    backward = engine.label(TEXTS[::-1], lambda done: None)
    np.testing.assert_allclose(forward.embeddings, backward.embeddings[::-1], atol=1e-5)
    topics, sentiments = forward.labels
    assert topics.task.labels[topics.classes[0]] == "Business"
    assert topics.task.labels[topics.classes[2]] == "Sports"
    assert sentiments.task.labels[sentiments.classes[1]] == "Positive"
    assert sentiments.task.labels[sentiments.classes[3]] == "Negative"


def test_the_engine_answers_as_the_model_itself_does(engine: TorchEngine) -> None:
    loaded = load_model(SHIPPED_MODELS / "default")
    labelled = engine.label(TEXTS[:1], lambda done: None)
    with torch.inference_mode():
        batch = loaded.tokenizer.pad(loaded.tokenizer(TEXTS[:1]))
        embedding, logits = loaded.model.forward_all(*batch)
    np.testing.assert_allclose(labelled.embeddings, embedding.numpy(), atol=1e-5)
    temperature = loaded.model.config.calibration_of("topic").temperature
    probability = torch.softmax(logits["topic"] / temperature, -1).max().item()
    assert labelled.labels[0].scores[0] == pytest.approx(probability, abs=1e-5)


def test_a_text_longer_than_the_model_reads_is_flagged(engine: TorchEngine) -> None:
    labelled = engine.label(TEXTS, lambda done: None)
    assert labelled.truncated.tolist() == [False, False, False, False, True]
    assert labelled.lengths.sum() < 256 + 4 * 30


def test_progress_reaches_the_number_of_texts(engine: TorchEngine) -> None:
    seen: list[int] = []
    engine.label(TEXTS, seen.append)
    assert seen[-1] == len(TEXTS)
    assert seen == sorted(seen)


def test_no_texts_give_no_rows(engine: TorchEngine) -> None:
    labelled = engine.label([], lambda done: None)
    assert labelled.embeddings.shape == (0, 256)


def test_bfloat16_stays_close_to_float32(engine: TorchEngine) -> None:
    lower = TorchEngine(load_model(SHIPPED_MODELS / "default"), precision="bfloat16")
    exact, near = (e.label(TEXTS, lambda done: None) for e in (engine, lower))
    cosines = (exact.embeddings * near.embeddings).sum(axis=1)
    assert cosines.min() > 0.995
    for one, other in zip(exact.labels, near.labels, strict=True):
        assert one.classes[:4].tolist() == other.classes[:4].tolist()


@pytest.mark.slow
def test_batches_under_way_at_once_give_the_answers_of_one_alone() -> None:
    engine = load_engine(
        SHIPPED_MODELS / "default", "openvino", "float32", cache=Path(os.environ["MTL_ENGINE_DIR"])
    )
    texts = [f"{text[:200]} {number}" for number in range(20) for text in TEXTS]
    whole = engine.label(texts, lambda done: None)
    engine.batch_tokens = 100
    assert engine.in_flight > 1
    parts = engine.label(texts, lambda done: None)
    np.testing.assert_allclose(parts.embeddings, whole.embeddings, atol=1e-5)

    def stop(done: int) -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        engine.label(texts, stop)
    again = engine.label(texts, lambda done: None)
    np.testing.assert_array_equal(again.embeddings, parts.embeddings)


@pytest.mark.slow
@pytest.mark.skipif(available_cores() < 2, reason="needs two cores")
def test_workers_of_one_core_each_are_not_tied_to_the_same_core(tmp_path: Path) -> None:
    openvino_engine = pytest.importorskip("mtl_core.engine.openvino_engine", exc_type=ImportError)
    engine = load_engine(SHIPPED_MODELS / "default", "openvino", cache=tmp_path, threads=1)
    assert isinstance(engine, openvino_engine.OpenVinoEngine)
    compiled = engine._idle[0].get_compiled_model()
    assert compiled.get_property("ENABLE_CPU_PINNING") is False


def test_batches_keep_to_the_token_budget_and_hold_every_row_once() -> None:
    lengths = np.random.default_rng(0).integers(2, 256, 500)
    batches = list(token_batches(lengths, 1024))
    assert sorted(np.concatenate(batches).tolist()) == list(range(500))
    assert all(len(rows) * lengths[rows].max() <= 1024 for rows in batches)


def test_rows_of_a_batch_are_as_alike_as_asked_for() -> None:
    lengths = np.random.default_rng(0).integers(2, 256, 500)
    batches = list(token_batches(lengths, 1024, alike=0.9))
    assert sorted(np.concatenate(batches).tolist()) == list(range(500))
    assert all(lengths[rows].min() >= 0.9 * lengths[rows].max() for rows in batches)
    assert all(len(rows) * lengths[rows].max() <= 1024 for rows in batches)
    # No batch ends before it must: the next one's longest row would be too many tokens, or too few.
    for rows, following in pairwise(batches):
        longest = lengths[rows].max()
        full = (len(rows) + 1) * longest > 1024
        assert full or lengths[following].max() < 0.9 * longest


def test_a_row_longer_than_the_budget_is_a_batch_of_its_own() -> None:
    assert [rows.tolist() for rows in token_batches(np.array([5000, 3]), 100)] == [[0], [1]]


def test_unknown_model_gets_a_suggestion(tmp_path: Path) -> None:
    assert [entry.name for entry in list_models(tmp_path)] == ["default", "fast"]
    with pytest.raises(UnknownModelError, match="no model named 'defualt'; did you mean 'default'"):
        find_model("defualt", tmp_path)


@pytest.mark.parametrize(("name", "most"), [("default", 25_000_000), ("fast", 15_000_000)])
def test_a_shipped_model_is_small(name: str, most: int) -> None:
    assert sum(path.stat().st_size for path in (SHIPPED_MODELS / name).iterdir()) <= most


def test_the_fast_model_gives_the_same_plain_answers() -> None:
    fast = TorchEngine(load_model(SHIPPED_MODELS / "fast"), precision="float32")
    topics, sentiments = fast.label(TEXTS[:4], lambda done: None).labels
    assert [topics.task.labels[topics.classes[row]] for row in (0, 2)] == ["Business", "Sports"]
    given = [sentiments.task.labels[sentiments.classes[row]] for row in (1, 3)]
    assert given == ["Positive", "Negative"]


SHORT_OF_MEMORY = """
import os, resource, psutil, sys
from pathlib import Path
from mtl_core.engine.load import load_engine
from mtl_core.engine.graph_folders import drop_old_graphs, graphs_in_use
from mtl_core.model.registry import SHIPPED_MODELS

cache = Path(os.environ["MTL_ENGINE_DIR"])
engine = load_engine(SHIPPED_MODELS / "default", sys.argv[1], "float32", cache=cache, threads=1)
texts = [f"the striker scored in match number {n} " * 30 for n in range(200)]
engine.batch_tokens = 1000
expected = engine.label(texts, lambda done: None)
engine.batch_tokens = 1_000_000
used = psutil.Process().memory_info().vms
resource.setrlimit(resource.RLIMIT_AS, (used + 300 * 2**20, resource.RLIM_INFINITY))
labelled = engine.label(texts, lambda done: None)
same = abs(labelled.embeddings - expected.embeddings).max() < 1e-4
print(engine.batch_tokens < 50_000, len(labelled.too_large), same)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="needs RLIMIT_AS as Linux has it")
@pytest.mark.parametrize("name", ["torch", "openvino"])
def test_a_batch_too_large_for_memory_is_halved_and_no_text_lost(name: str) -> None:
    command = [sys.executable, "-c", SHORT_OF_MEMORY, name]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "0", "True"]
    assert "out of memory: batches of" in done.stderr


def test_a_batch_made_smaller_grows_back_once_memory_suffices_and_ever_more_seldom(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("mtl_core.engine.base.GROW_AFTER", 1)
    engine = TorchEngine(load_model(SHIPPED_MODELS / "default"), "float32", batch_tokens=64)
    start, short = engine.start, list[MemoryError]()

    def short_once(batch: TokenIds) -> Pending:
        if short:
            raise short.pop()
        return start(batch)

    monkeypatch.setattr(engine, "start", short_once)

    def calls_until_it_is_back() -> int:
        short.append(MemoryError())
        engine.label(TEXTS[1:2] * 4, lambda done: None)
        assert engine.batch_tokens < 64
        calls = 0
        while engine.batch_tokens < 64:
            engine.label(TEXTS[1:2] * 4, lambda done: None)
            calls += 1
            assert calls < 100
        return calls

    assert calls_until_it_is_back() < calls_until_it_is_back() < calls_until_it_is_back()


@pytest.mark.parametrize(
    ("error", "short", "lasting"),
    [
        (MemoryError(), True, False),
        (RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"), True, False),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublas"), True, False),
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), True, False),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), False, True),
        (RuntimeError("CUDA error: device-side assert triggered"), False, True),
        (RuntimeError("The size of tensor a must match"), False, False),
        (ValueError("CUDA error"), False, False),
    ],
)
def test_short_memory_and_a_lost_gpu_are_told_from_other_errors(
    error: Exception, short: bool, lasting: bool
) -> None:
    assert (is_out_of_memory(error), is_lasting(error)) == (short, lasting)


def test_why_a_gpu_that_is_there_is_not_used_is_said(tmp_path: Path) -> None:
    driver = tmp_path / "nvidiactl"
    assert gpu_trouble(driver) == ""
    driver.touch()
    if not torch.cuda.is_available():
        assert gpu_trouble(driver)


def test_an_answer_that_is_no_number_is_an_error_and_no_label() -> None:
    loaded = load_model(SHIPPED_MODELS / "default")
    with torch.no_grad():
        loaded.model.heads["topic"].weight[1, 0] = float("nan")
    engine = TorchEngine(loaded, precision="float32")
    with pytest.raises(FloatingPointError, match=r"no numbers \(NaN\) for 2 of 2 texts"):
        engine.label(TEXTS[:2], lambda done: None)


def test_what_stands_for_a_text_too_large_for_memory_is_no_error(engine: TorchEngine) -> None:
    labelled = engine.label(TEXTS[:2], lambda done: None)
    labelled.embeddings[1] = np.nan
    demand_numbers(replace(labelled, too_large=(1,)))
    with pytest.raises(FloatingPointError, match="1 of 2"):
        demand_numbers(labelled)


def test_a_model_trained_anew_under_its_name_is_another_engine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MTL_ENGINE", "torch")
    settings.cache_clear()
    folder = tmp_path / "m"
    shutil.copytree(SHIPPED_MODELS / "default", folder)
    first = engine_for(folder, "float32")
    assert engine_for(folder, "float32") is first
    config = json.loads((folder / "config.json").read_text())
    config["calibration"]["topic"]["temperature"] = 7.5
    (folder / "config.json").write_text(json.dumps(config))
    calibrated = engine_for(folder, "float32")
    assert calibrated.config.calibration_of("topic").temperature == 7.5
    assert calibrated.model_sha256 == first.model_sha256
    loaded = load_model(folder)
    with torch.no_grad():
        loaded.model.heads["topic"].weight.neg_()
    names = [name for name, _ in loaded.model.named_parameters() if "layer" in name]
    save_model(loaded.model, names, folder, {})
    anew = engine_for(folder, "float32")
    assert anew.model_sha256 not in (first.model_sha256, "")
    one, other = (e.label(TEXTS[:1], lambda done: None).labels[0].classes for e in (first, anew))
    assert one != other


def test_only_so_many_graphs_are_kept_and_none_goes_while_one_is_read(tmp_path: Path) -> None:
    names = [f"openvino-{n:012x}-{0:012x}-0.1.0" for n in range(4)]
    names += [f"{names[3]}-int8-{n:012x}" for n in range(4)]
    for age, name in enumerate(names):
        (tmp_path / name).mkdir()
        (tmp_path / name / "labels.json").write_text("{}")
        os.utime(tmp_path / name, (1000 + age, 1000 + age))
    (tmp_path / "openvino-of-somebody-else").mkdir()
    with graphs_in_use(tmp_path):
        drop_old_graphs(tmp_path, keep=2)
        assert all((tmp_path / name).is_dir() for name in names)
    drop_old_graphs(tmp_path, keep=2)
    assert {p.name for p in tmp_path.iterdir() if p.is_dir()} == {
        *(names[2:4] + names[6:]),
        "openvino-of-somebody-else",
    }


@pytest.mark.slow
def test_making_a_graph_pulses_and_leaves_nothing_when_it_is_told_to_stop(tmp_path: Path) -> None:
    openvino_engine = pytest.importorskip("mtl_core.engine.openvino_engine", exc_type=ImportError)
    pulses: list[int] = []

    def stop() -> None:
        pulses.append(1)
        if len(pulses) > 2:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        openvino_engine.exported_graph(SHIPPED_MODELS / "default", tmp_path, stop)
    assert len(pulses) == 3
    assert not list(tmp_path.iterdir())
