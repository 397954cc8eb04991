"""Other backbones: hidden size, pooling and maximal length follow the backbone."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support import save_word_tokenizer
from transformers import (
    AutoModel,
    BertConfig,
    DebertaV2Config,
    DistilBertConfig,
    ModernBertConfig,
    MPNetConfig,
    RobertaConfig,
)

from mtl_core.config import ModelConfig, train_config
from mtl_core.engine.graph import LabelGraph
from mtl_core.model.layers import transformer_layers
from mtl_core.model.network import build_model, load_model
from mtl_core.training.kept.boundary import UpperLayers
from mtl_core.training.run import TrainingRun
from mtl_core.training.scenarios import apply_scenario

SMALL: dict[str, Any] = {
    "hidden_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 40,
    "pad_token_id": 0,
}
CONFIGS = {
    "bert": lambda n: BertConfig(vocab_size=n, **SMALL),
    # As DeBERTa-v3 is configured: relative positions, no absolute ones, shared key.
    "deberta-v3": lambda n: DebertaV2Config(
        vocab_size=n, relative_attention=True, position_buckets=16, norm_rel_ebd="layer_norm",
        share_att_key=True, pos_att_type=["p2c", "c2p"], position_biased_input=False, **SMALL,
    ),
    "deberta-v2": lambda n: DebertaV2Config(vocab_size=n, conv_kernel_size=3, **SMALL),
    "mpnet": lambda n: MPNetConfig(vocab_size=n, **SMALL),
    "roberta": lambda n: RobertaConfig(vocab_size=n, **SMALL),
    "distilbert": lambda n: DistilBertConfig(
        vocab_size=n, dim=48, n_layers=3, n_heads=4, hidden_dim=64, max_position_embeddings=40
    ),
    "modernbert": lambda n: ModernBertConfig(
        vocab_size=n, **SMALL, bos_token_id=2, eos_token_id=3, cls_token_id=2, sep_token_id=3
    ),
}  # fmt: skip


@pytest.fixture(params=CONFIGS)
def backbone(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A small random encoder of each family, as save_pretrained writes one."""
    folder = tmp_path / str(request.param)
    words = save_word_tokenizer(folder)
    torch.manual_seed(1)
    AutoModel.from_config(CONFIGS[request.param](words)).save_pretrained(folder)
    return folder


def test_any_encoder_embeds_and_its_last_layers_are_found(backbone: Path) -> None:
    model, tokenizer = build_model(ModelConfig(backbone=str(backbone)))
    vectors = model.eval().encode(["good film", "a much longer text about war and goals"])
    assert vectors.shape == (2, 256)
    assert model.encoder.projection.in_features == 48
    assert 30 <= tokenizer.max_tokens <= 256
    assert tokenizer(["war " * 500]).lengths[0] == tokenizer.max_tokens
    assert len(model.encode(["war " * 500])) == 1
    assert len(transformer_layers(model.encoder.backbone)) == 3
    trained = apply_scenario(model, train_config("recommended", scenario="last-layers", layers=1))
    names = [name for name in trained if name.startswith("encoder.backbone.")]
    assert names
    assert all(".2." in name for name in names)


def test_any_encoder_is_cut_at_its_frozen_boundary(backbone: Path) -> None:
    model, tokenizer = build_model(ModelConfig(backbone=str(backbone)))
    ids = tokenizer(["good film", "a much longer text about war and goals"])
    cut = [UpperLayers(model.encoder, layer).agrees(tokenizer, ids) for layer in (1, 2)]
    # DeBERTa-v2 puts a convolution behind whatever layer comes first: not to be cut, and noticed.
    assert cut == [backbone.name != "deberta-v2"] * 2
    assert len(transformer_layers(model.encoder.backbone)) == 3  # whole again


def test_padding_changes_no_vector(backbone: Path) -> None:
    model, _ = build_model(ModelConfig(backbone=str(backbone)))
    ids, mask = model.tokenizer.pad(model.tokenizer(["good film"]))
    longer = model.tokenizer.pad(model.tokenizer(["good film", "a much longer text about war"]))
    with torch.inference_mode():
        alone = model.eval().encoder(ids, mask)
        beside = model.encoder(*longer)[:1]
    torch.testing.assert_close(alone, beside, atol=1e-5, rtol=0)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # tracing looks at whatever a module has, old names too
def test_attention_written_out_changes_no_vector(backbone: Path) -> None:
    openvino = pytest.importorskip("openvino")
    from mtl_core.engine.attention import write_out_attention

    model, tokenizer = build_model(ModelConfig(backbone=str(backbone)))
    batch = tokenizer.pad(tokenizer(["good film", "a much longer text about war and goals"]))
    graph = openvino.convert_model(
        LabelGraph(model).eval(),
        example_input=batch,
        input=[("input_ids", [-1, -1]), ("attention_mask", [-1, -1])],
    )

    def vectors() -> Any:
        options = {"INFERENCE_PRECISION_HINT": "f32"}
        return openvino.Core().compile_model(graph, "CPU", options)(batch)[0]

    before = vectors()
    products = write_out_attention(graph)
    # DeBERTa and MPNet do not compute theirs by the operation that is written out.
    assert len(products) == (0 if backbone.name in ("deberta-v2", "deberta-v3", "mpnet") else 6)
    np.testing.assert_allclose(vectors(), before, atol=1e-6)


@pytest.mark.slow
def test_any_encoder_is_trained_and_loaded_again(
    backbone: Path, made_data: Path, tmp_path: Path
) -> None:
    config = train_config("recommended", scenario="last-layers", layers=1, seed=1)
    TrainingRun(
        config, ModelConfig(backbone=str(backbone)), made_data, tmp_path / "m", name="m", command=""
    ).run()
    assert load_model(tmp_path / "m").model.encode(["good"]).shape == (1, 256)


def test_pooling_is_that_of_the_backbones_authors(tiny_backbone: Path, tmp_path: Path) -> None:
    import shutil

    folder = tmp_path / "cls"
    shutil.copytree(tiny_backbone, folder)
    (folder / "1_Pooling").mkdir()
    modes = {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}
    (folder / "1_Pooling/config.json").write_text(json.dumps(modes))
    model, tokenizer = build_model(ModelConfig(backbone=str(folder)))
    ids, mask = tokenizer.pad(tokenizer(["good film"]))
    with torch.inference_mode():
        model.eval()
        first = model.encoder.backbone(input_ids=ids, attention_mask=mask).last_hidden_state[:, 0]
        torch.testing.assert_close(model.encoder.pool(ids, mask), first)
