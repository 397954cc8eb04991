"""Labels from stored embeddings by a model's heads alone, against the engine's."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from support import made_texts

from jobs.output.rows import vectors_of
from mtl_core.config import Embedding
from mtl_core.engine.heads import read_heads
from mtl_core.engine.load import load_engine
from mtl_core.errors import ModelError
from mtl_core.model.registry import SHIPPED_MODELS
from mtl_core.storage.parquet import embedding_columns

DEFAULT = SHIPPED_MODELS / "default"


@pytest.mark.slow
def test_heads_answer_as_the_engine_does_from_each_form_of_the_embedding(tmp_path: Path) -> None:
    texts = [*made_texts("topic", 60, 1)[0], *made_texts("sentiment", 60, 2)[0]]
    engine = load_engine(DEFAULT, "torch", "float32", cache=tmp_path)
    whole, heads = engine.label(texts, lambda done: None), read_heads(DEFAULT)
    assert heads.model_sha256 == engine.model_sha256
    forms: tuple[tuple[Embedding, float], ...] = (
        ("float32", 1e-5),
        ("float16", 1e-2),
        ("int8", 0.1),
    )
    for form, most in forms:
        vectors = vectors_of(pa.table(embedding_columns(whole.embeddings, form)), form)
        found = heads.label(vectors, whole.truncated)
        for own, theirs in zip(found.labels, whole.labels, strict=True):
            assert own.task == theirs.task
            assert own.probabilities.dtype == np.float32
            assert np.abs(own.probabilities - theirs.probabilities).max() < most
            assert (own.classes == theirs.classes).mean() >= 0.99


def test_an_embedding_of_nan_gets_no_label() -> None:
    with pytest.raises(FloatingPointError):
        read_heads(DEFAULT).label(np.full((2, 256), np.nan, np.float32), np.zeros(2, bool))


def test_a_folder_without_weights_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes((DEFAULT / "config.json").read_bytes())
    with pytest.raises(ModelError, match="cannot be read"):
        read_heads(tmp_path)
