"""An exported model says what the model says."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from mtl_core.engine.export import export_model
from mtl_core.engine.graph import LabelGraph
from mtl_core.errors import ModelError, OutputError
from mtl_core.model.network import LoadedModel, load_model
from mtl_core.model.registry import SHIPPED_MODELS

TEXTS = ["A dull film.", "Shares of the bank fell sharply after the report on inflation.", "goal"]


@pytest.fixture(scope="module")
def shipped() -> LoadedModel:
    return load_model(SHIPPED_MODELS / "default")


def expected(loaded: LoadedModel) -> tuple[np.ndarray, ...]:
    ids, mask = loaded.tokenizer.pad(loaded.tokenizer(TEXTS))
    with torch.inference_mode():
        return tuple(value.numpy() for value in LabelGraph(loaded.model)(ids, mask))


@pytest.mark.slow
def test_sentence_transformers_gives_the_same_vectors(shipped: LoadedModel, tmp_path: Path) -> None:
    library = pytest.importorskip("sentence_transformers")
    export_model(shipped, "sentence-transformers", tmp_path / "st")
    vectors = library.SentenceTransformer(str(tmp_path / "st"), device="cpu").encode(TEXTS)
    assert vectors.shape == (3, 256)
    np.testing.assert_allclose(vectors, expected(shipped)[0], atol=1e-5)


@pytest.mark.slow
def test_onnx_gives_the_same_vectors_and_probabilities(
    shipped: LoadedModel, tmp_path: Path
) -> None:
    runtime = pytest.importorskip("onnxruntime")
    export_model(shipped, "onnx", tmp_path / "onnx")
    ids, mask = shipped.tokenizer.pad(shipped.tokenizer(TEXTS))
    session = runtime.InferenceSession(str(tmp_path / "onnx/model.onnx"))
    found = session.run(None, {"input_ids": ids.numpy(), "attention_mask": mask.numpy()})
    for value, wanted in zip(found, expected(shipped), strict=True):
        np.testing.assert_allclose(value, wanted, atol=1e-5)


@pytest.mark.slow
def test_openvino_gives_the_same_vectors_and_probabilities(
    shipped: LoadedModel, tmp_path: Path
) -> None:
    openvino = pytest.importorskip("openvino")
    export_model(shipped, "openvino", tmp_path / "ov")
    labels = json.loads((tmp_path / "ov/labels.json").read_text())
    assert labels["outputs"] == ["sentence_embedding", "topic", "sentiment"]
    compiled = openvino.Core().compile_model(
        str(tmp_path / "ov/model.xml"), "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
    )
    ids, mask = shipped.tokenizer.pad(shipped.tokenizer(TEXTS))
    found = compiled([ids.numpy(), mask.numpy()])
    for name, wanted in zip(labels["outputs"], expected(shipped), strict=True):
        np.testing.assert_allclose(found[name], wanted, atol=1e-5)


def test_a_folder_that_holds_something_is_left_alone(shipped: LoadedModel, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("x")
    with pytest.raises(OutputError, match="is not empty"):
        export_model(shipped, "onnx", tmp_path)


def test_a_failed_export_leaves_nothing_and_a_file_is_not_replaced(
    shipped: LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine").write_text("x")
    with pytest.raises(OutputError, match="is not empty"):
        export_model(shipped, "onnx", tmp_path / "mine")
    monkeypatch.setitem(sys.modules, "openvino", None)  # as if it were not installed
    with pytest.raises(ModelError, match=r"pip install 'mtl-batch\[export\]'"):
        export_model(shipped, "openvino", tmp_path / "new")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine"]
