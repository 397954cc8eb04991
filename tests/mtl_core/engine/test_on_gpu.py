"""What a GPU is given, tried without one: packed texts, the choice of a way, and no waiting.

Tensors of torch's device "meta" have no values. To read one is an error there, where on a GPU it
would be to wait for all that was queued before.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from loops import loop_over, settings
from torch import Tensor, nn

from mtl_core.config import ModelConfig, TrainConfig
from mtl_core.engine.choose import choose_precision
from mtl_core.engine.graph import LabelGraph
from mtl_core.engine.on_gpu import PackedRun, Way, sample_of, take_fastest
from mtl_core.engine.packed import PackedGraph, can_pack, pack
from mtl_core.engine.torch_engine import TorchEngine
from mtl_core.errors import ModelError
from mtl_core.model.encoder import finished_mask
from mtl_core.model.network import build_model, load_model
from mtl_core.model.precision import one_behind
from mtl_core.model.registry import SHIPPED_MODELS
from mtl_core.token_ids import TokenIds
from mtl_core.training.loop import TrainingLoop
from mtl_core.training.weights import TrainedWeights

TEXTS = [
    "The central bank raised interest rates again on Thursday to slow inflation.",
    "A superb film.",
    "",
    "word " * 2000,
    "The striker scored twice as the home side won the cup final.",
]
CPU = torch.device("cpu")


@pytest.fixture
def engine() -> TorchEngine:
    return TorchEngine(load_model(SHIPPED_MODELS / "default"), precision="float32")


def as_packed(engine: TorchEngine, tokens: int = 1024) -> Way:
    return Way("packed", tokens, 1, partial(PackedRun, engine._graph, CPU))


def test_packed_texts_get_the_answers_of_padded_ones(engine: TorchEngine) -> None:
    texts = [f"{text} {number}" for number in range(8) for text in TEXTS]
    padded = engine.label(texts, lambda done: None)
    engine.take(as_packed(engine))
    packed = engine.label(texts, lambda done: None)
    np.testing.assert_allclose(packed.embeddings, padded.embeddings, atol=1e-5)
    for one, other in zip(packed.labels, padded.labels, strict=True):
        np.testing.assert_allclose(one.probabilities, other.probabilities, atol=1e-5)


def test_what_fills_a_batch_up_changes_no_answer(engine: TorchEngine) -> None:
    ids = engine.encode(TEXTS).ids
    padded = engine.label(TEXTS, lambda done: None)
    engine.take(as_packed(engine))
    graph = PackedGraph(engine._graph, engine.tokenizer.max_tokens)
    with torch.inference_mode():
        embeddings, topics, _ = graph(*pack(ids, tokens=1024, texts=20).tensors)
    assert embeddings.shape == (20, 256)
    np.testing.assert_allclose(embeddings[:5], padded.embeddings, atol=1e-5)
    np.testing.assert_allclose(topics[:5], padded.labels[0].probabilities, atol=1e-5)


def test_packed_texts_are_pooled_by_their_first_token_where_the_backbone_is(
    tiny_backbone: Path,
) -> None:
    model, tokenizer = build_model(ModelConfig(backbone=str(tiny_backbone)))
    model.encoder.pooling = "cls"
    graph = LabelGraph(model).eval()
    ids = tokenizer(["goal bank", "film", "a bank goal film"])
    with torch.inference_mode():
        padded = graph(*tokenizer.pad(ids))
        packed = PackedRun(graph, CPU)(ids)
        filled = PackedGraph(graph, 64)(*pack(ids, 40, 8).tensors)
    for one, other, third in zip(padded, packed, filled, strict=True):
        torch.testing.assert_close(other, one, atol=1e-5, rtol=0)
        torch.testing.assert_close(third[:3], one, atol=1e-5, rtol=0)


def test_only_backbones_that_are_known_to_be_packable_are_packed(tiny_backbone: Path) -> None:
    backbone = build_model(ModelConfig(backbone=str(tiny_backbone)))[0].encoder.backbone
    assert can_pack(backbone, "bfloat16")
    assert not can_pack(backbone, "float32")  # the GPU's kernel is for half precision
    backbone.config.model_type = "roberta"  # type: ignore[union-attr]
    assert not can_pack(backbone, "bfloat16")


class Slow:
    """A way's run that takes its time, and may give other answers or fail."""

    def __init__(self, engine: TorchEngine, seconds: float, *, wrong: bool = False) -> None:
        self.engine, self.seconds, self.wrong = engine, seconds, wrong
        self.known: dict[int, Sequence[Tensor]] = {}

    def __call__(self, batch: TokenIds) -> Sequence[Tensor]:
        time.sleep(self.seconds)
        if len(batch) not in self.known:  # once, so that what is timed is the sleep alone
            embedding, *others = self.engine._padded(batch)
            self.known[len(batch)] = [
                torch.roll(embedding, 1, 1) if self.wrong else embedding,
                *others,
            ]
        return self.known[len(batch)]


def test_the_fastest_way_is_taken_of_those_that_work_and_agree(
    engine: TorchEngine, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(batch: TokenIds) -> Sequence[Tensor]:
        raise RuntimeError("no kernel image is available\nfor this card")

    offered = [
        Way("padded", 600, 2, lambda: Slow(engine, 0.3)),
        Way("other answers", 600, 2, lambda: Slow(engine, 0.0, wrong=True)),
        Way("broken", 600, 2, lambda: broken),
        Way("packed", 600, 3, lambda: Slow(engine, 0.1)),
        Way("slower", 600, 2, lambda: Slow(engine, 0.5)),
    ]
    caplog.set_level("INFO")
    take_fastest(engine, engine.take, offered, sample_of(1000, 64, tokens=540))
    assert engine.identity == "torch float32 packed"
    assert (engine.batch_tokens, engine.in_flight) == (600, 3)
    assert "broken texts are not for this GPU: no kernel image is available\n" in caplog.text
    assert "other answers texts give other answers on this GPU, and are not used" in caplog.text


def test_a_gpu_that_is_lost_while_ways_are_tried_is_no_reason_to_go_on(engine: TorchEngine) -> None:
    def lost(batch: TokenIds) -> Sequence[Tensor]:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    offered = [Way("padded", 600, 2, lambda: engine._padded), Way("packed", 600, 2, lambda: lost)]
    with pytest.raises(RuntimeError, match="illegal memory access"):
        take_fastest(engine, engine.take, offered, sample_of(1000, 64, tokens=540))


def test_where_arithmetic_is_the_limit_no_other_way_is_tried(
    engine: TorchEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mtl_core.engine.on_gpu.ENOUGH_S", 0.0)
    tried: list[str] = []

    def way(name: str) -> Way:
        return Way(name, 600, 1, lambda: tried.append(name) or engine._padded)

    take_fastest(engine, engine.take, [way("padded"), way("packed")], sample_of(1000, 64, 540))
    assert set(tried) == {"padded"}


def test_drawn_texts_are_as_long_as_news_and_always_the_same() -> None:
    one, other = sample_of(30522, 256), sample_of(30522, 256)
    np.testing.assert_array_equal(one.ids.values, other.ids.values)
    assert 50 < one.ids.lengths.mean() < 58
    assert one.ids.lengths.max() <= 256


def test_float16_is_refused_without_a_gpu() -> None:
    with pytest.raises(ModelError, match="float16 runs on a GPU only"):
        choose_precision("torch", "float16")


def test_a_batch_is_read_when_the_next_one_was_begun() -> None:
    events: list[str] = []

    def begun() -> Iterator[int]:
        for number in range(3):
            events.append(f"begin {number}")
            yield number

    for number in one_behind(begun()):
        events.append(f"read {number}")
    assert events == ["begin 0", "begin 1", "read 0", "begin 2", "read 1", "read 2"]


def test_a_finished_mask_gives_the_same_vectors(engine: TorchEngine) -> None:
    encoder = engine._graph.model.encoder
    ids, mask = engine.tokenizer.pad(engine.encode(TEXTS).ids)
    finished = finished_mask(encoder.backbone, mask)
    assert finished.dtype == torch.bool
    assert finished.shape == (5, 1, 1, ids.shape[1])
    with torch.inference_mode():
        states = encoder.backbone(input_ids=ids, attention_mask=finished).last_hidden_state
        torch.testing.assert_close(
            encoder.pool_states(states, mask), encoder.pool(ids, mask), atol=1e-5, rtol=0
        )


def test_a_backbone_with_masks_of_its_own_gets_the_mask_as_it_is(engine: TorchEngine) -> None:
    backbone: Any = engine._graph.model.encoder.backbone
    mask = torch.ones(2, 3, dtype=torch.int64)
    backbone.config.model_type = "modernbert"
    assert finished_mask(backbone, mask) is mask
    backbone.config.model_type = "bert"
    backbone.set_attn_implementation("eager")
    assert finished_mask(backbone, mask) is mask


# --- no waiting, on tensors without values


@pytest.fixture
def on_meta(monkeypatch: pytest.MonkeyPatch) -> Callable[[nn.Module], None]:
    """Moves a model to the device "meta"; what only a real device has is left out."""

    def plain(model: nn.Module, config: TrainConfig) -> torch.optim.AdamW:
        return torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], foreach=True)

    monkeypatch.setattr("mtl_core.training.loop.make_optimizer", plain)  # "fused" refuses meta
    monkeypatch.setattr(torch, "autocast", lambda **_: nullcontext())
    return lambda model: model.to("meta")


def test_a_value_cannot_be_read_from_the_device_meta() -> None:
    with pytest.raises(RuntimeError, match="meta"):
        torch.ones(2, device="meta").sum().item()
    with pytest.raises(NotImplementedError, match="meta"):
        torch.ones(2, device="meta")[torch.ones(2, device="meta") > 0]


@pytest.mark.parametrize("scenario", ["full", "last-layers", "freeze-backbone"])
def test_a_training_step_reads_nothing_from_the_gpu(
    made_data: Path, tiny_backbone: Path, on_meta: Callable[[nn.Module], None], scenario: str
) -> None:
    before, model = loop_over(made_data, tiny_backbone, settings(scenario=scenario))
    on_meta(model)
    loop = TrainingLoop(model, before.tokenizer, before.training, before.held_out, before.config)
    model.encoder.backbone.set_attn_implementation("sdpa")  # type: ignore[operator]
    for step in (1, 2):
        for task in ("topic", "sentiment"):
            loop._train_step(task, np.arange(4), step)
    with pytest.raises(RuntimeError, match="meta"):
        loop._tally.read()  # at every tenth step the losses are read


def test_padded_and_packed_batches_are_queued_without_reading_from_the_gpu(
    engine: TorchEngine, on_meta: Callable[[nn.Module], None]
) -> None:
    ids = engine.encode(TEXTS).ids
    on_meta(engine._graph)
    engine.device = torch.device("meta")
    with torch.inference_mode():
        padded = engine._padded(ids)
        packed = PackedRun(engine._graph, engine.device)(ids)
    assert [each.shape for each in padded] == [each.shape for each in packed]
    assert {each.device.type for each in (*padded, *packed)} == {"meta"}


def test_a_mask_that_is_asked_about_is_what_would_wait(
    engine: TorchEngine, on_meta: Callable[[nn.Module], None]
) -> None:
    ids, mask = engine.tokenizer.pad(engine.encode(TEXTS).ids)
    on_meta(engine._graph)
    with pytest.raises(RuntimeError, match="meta"):
        engine._graph.model.encoder.backbone(
            input_ids=ids.to("meta"), attention_mask=mask.to("meta")
        )


def test_adamw_goes_on_from_a_checkpoint_with_its_state_where_its_parameters_are(
    made_data: Path, tiny_backbone: Path, on_meta: Callable[[nn.Module], None]
) -> None:
    loop, model = loop_over(made_data, tiny_backbone, settings(scenario="full"))
    for step, task in enumerate(("topic", "sentiment"), 1):
        loop._train_step(task, np.arange(4), step)
    assert loop.optimizer is not None
    kept = TrainedWeights(model, loop.trained, average=False).tensors(loop.optimizer)
    on_meta(model)
    optimizer = torch.optim.AdamW(model.parameters())
    TrainedWeights(model, loop.trained, average=False).restore(optimizer, kept)
    state = [value for each in optimizer.state.values() for value in each.values()]
    assert len(state) == 3 * len(loop.trained)  # two moments and a count of steps
    assert {value.device.type for value in state} == {"meta"}
