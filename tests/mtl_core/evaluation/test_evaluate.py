"""Evaluation by the labelling engine and by the model in memory: the same figures."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import made_texts

from jobs.settings import settings
from mtl_core.data.splits import LabelledTexts, load_split
from mtl_core.data.stsb import Pairs
from mtl_core.engine.base import Labelled
from mtl_core.engine.load import load_engine
from mtl_core.engine.torch_engine import TorchEngine
from mtl_core.errors import ModelError
from mtl_core.evaluation.answers import EngineAnswers, ModelAnswers
from mtl_core.evaluation.calibration import softmax
from mtl_core.evaluation.evaluate import Evaluation, calibration_texts, evaluate_model
from mtl_core.evaluation.similarity import correlation
from mtl_core.model.network import load_model
from mtl_core.model.registry import SHIPPED_MODELS
from mtl_core.tasks import DEFAULT_TASKS

DEFAULT = SHIPPED_MODELS / "default"
LONG = "the senator said the vote was close and the count went on " * 40


@pytest.fixture(scope="module")
def in_memory() -> ModelAnswers:
    return ModelAnswers(load_model(DEFAULT).model, "float32")


@pytest.fixture(scope="module")
def by_torch() -> EngineAnswers:
    return EngineAnswers(TorchEngine(load_model(DEFAULT), "float32"))


def test_the_engine_gives_the_models_probabilities_at_any_temperature(
    in_memory: ModelAnswers, by_torch: EngineAnswers
) -> None:
    texts = [*made_texts("topic", 12, seed=1)[0], LONG, "fine"]
    model, engine = in_memory.answer(texts), by_torch.answer(texts)
    np.testing.assert_allclose(engine.embeddings, model.embeddings, atol=1e-5)
    assert in_memory.config.calibration_of("sentiment").temperature != 1
    for task, logits in model.logits.items():
        for temperature in (0.5, 1.0, 3.0):
            np.testing.assert_allclose(
                softmax(engine.logits[task], temperature), softmax(logits, temperature), atol=1e-4
            )


def test_a_probability_of_zero_gives_a_logit_that_is_a_number(by_torch: EngineAnswers) -> None:
    labelled = by_torch._engine.label(["fine"], lambda done: None)
    for answer in labelled.labels:
        answer.probabilities[:] = np.eye(len(answer.task.labels), dtype=np.float32)[0]

    class Certain(TorchEngine):
        def label(self, *_: Any) -> Labelled:
            return labelled

    found = EngineAnswers(Certain(load_model(DEFAULT), "float32")).answer(["fine"])
    assert all(np.isfinite(logits).all() for logits in found.logits.values())
    assert softmax(found.logits["topic"])[0, 0] == pytest.approx(1)


def test_answers_that_are_no_numbers_are_refused() -> None:
    loaded = load_model(DEFAULT)
    loaded.model.encoder.projection.weight.data.fill_(float("nan"))
    with pytest.raises(ModelError, match="gave no numbers"):
        EngineAnswers(TorchEngine(loaded, "float32")).answer(["fine"])


@pytest.mark.slow
def test_both_ways_give_the_same_figures(in_memory: ModelAnswers, made_data: Path) -> None:
    pytest.importorskip("openvino")
    engine = EngineAnswers(load_engine(DEFAULT, "openvino", "float32", cache=settings().engines))
    first, second = made_texts("topic", 20, seed=3)[0], made_texts("topic", 20, seed=4)[0]
    pairs = Pairs(first, second, list(np.linspace(0, 5, 20)))

    def figures(answers: ModelAnswers | EngineAnswers) -> Evaluation:
        return evaluate_model(
            answers,
            partial(load_split, data_dir=made_data),
            zero_shot=True,
            similarity=lambda: correlation(answers.answer(pairs.texts).embeddings, pairs),
        )

    model, openvino = figures(in_memory), figures(engine)
    assert model.computed == {"engine": "torch", "precision": "float32"}
    assert openvino.computed == {"engine": "openvino", "precision": "float32"}
    assert openvino.official == model.official
    assert openvino.zero_shot == model.zero_shot
    assert openvino.stsb == pytest.approx(model.stsb, abs=1e-3)
    for task, report in model.calibration.items():
        assert openvino.calibration[task]["ece_before"] == pytest.approx(
            report["ece_before"], abs=1e-3
        )
    json.dumps(openvino.as_dict())


def test_texts_to_calibrate_on_come_from_all_tasks_alike() -> None:
    def load(task: Any, split: str) -> LabelledTexts:
        texts = [f"{task.name} {split} {n}" for n in range(1000)]
        return LabelledTexts(task, texts, np.zeros(1000, dtype=np.int64))

    texts = calibration_texts(DEFAULT_TASKS, load)
    assert len(texts) == 300
    assert texts[0] == "topic test 0"
    assert texts[-1] == "sentiment validation 999"
    assert sum(text.startswith("topic") for text in texts) == 150
