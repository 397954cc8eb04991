"""The model: pooling, unit embeddings, one head a task, encoded once."""

from pathlib import Path

import pytest
import torch

from mtl_core.config import ModelConfig
from mtl_core.errors import BackboneError, ModelError, UnknownModelError, UnknownTaskError
from mtl_core.model.encoder import masked_mean
from mtl_core.model.network import MultiTaskModel, build_model, load_model, save_model
from mtl_core.model.tokenizer import Tokenizer
from mtl_core.token_ids import TokenIds


@pytest.fixture
def built(tiny_backbone: Path) -> tuple[MultiTaskModel, Tokenizer]:
    torch.manual_seed(0)
    model, tokenizer = build_model(ModelConfig(backbone=str(tiny_backbone)))
    return model.eval(), tokenizer


def test_pooling_leaves_padding_out() -> None:
    hidden = torch.tensor([[[1.0, 2.0], [3.0, 4.0], [100.0, 100.0]]])
    mask = torch.tensor([[1, 1, 0]])
    assert torch.equal(masked_mean(hidden, mask), torch.tensor([[2.0, 3.0]]))


def test_embedding_has_256_numbers_and_length_one(built: tuple[MultiTaskModel, Tokenizer]) -> None:
    model, tokenizer = built
    embedding = model.encoder(*tokenizer.pad(tokenizer(["match goal", "profit market bank"])))
    assert embedding.shape == (2, 256)
    torch.testing.assert_close(embedding.norm(dim=-1), torch.ones(2))


def test_each_task_has_its_own_head(built: tuple[MultiTaskModel, Tokenizer]) -> None:
    model, tokenizer = built
    batch = tokenizer.pad(tokenizer(["match goal"]))
    assert model(*batch, task="topic").shape == (1, 4)
    assert model(*batch, task="sentiment").shape == (1, 2)


def test_unknown_task_is_named_with_those_there_are(
    built: tuple[MultiTaskModel, Tokenizer],
) -> None:
    model, tokenizer = built
    with pytest.raises(UnknownTaskError, match=r"no head for task 'mood'.*topic, sentiment"):
        model(*tokenizer.pad(tokenizer(["x"])), task="mood")


def test_all_heads_share_one_encoding(built: tuple[MultiTaskModel, Tokenizer]) -> None:
    model, tokenizer = built
    calls = []
    model.encoder.backbone.register_forward_hook(lambda *_: calls.append(1))
    batch = tokenizer.pad(tokenizer(["match goal"]))
    _, logits = model.forward_all(*batch)
    assert len(calls) == 1
    torch.testing.assert_close(logits["topic"], model(*batch, task="topic"))


def test_padding_does_not_change_an_embedding(built: tuple[MultiTaskModel, Tokenizer]) -> None:
    model, tokenizer = built
    short, long = tokenizer(["match goal", "profit market bank merger revenue shares"])
    alone = model.encoder(*tokenizer.pad(TokenIds.of([short])))
    padded = model.encoder(*tokenizer.pad(TokenIds.of([short, long])))[:1]
    torch.testing.assert_close(alone, padded, atol=1e-6, rtol=0)


def test_a_saved_model_comes_back_with_the_same_logits(
    built: tuple[MultiTaskModel, Tokenizer], tmp_path: Path
) -> None:
    model, tokenizer = built
    save_model(model, trained=[], folder=tmp_path / "m", training={})
    again = load_model(tmp_path / "m")
    batch = tokenizer.pad(tokenizer(["match goal"]))
    assert torch.equal(again.model(*batch, task="topic"), model(*batch, task="topic"))


def test_a_model_keeps_only_what_was_trained(
    built: tuple[MultiTaskModel, Tokenizer], tmp_path: Path
) -> None:
    model, _ = built
    save_model(model, trained=[], folder=tmp_path / "heads", training={})
    everything = [name for name, _ in model.named_parameters()]
    save_model(model, trained=everything, folder=tmp_path / "full", training={})
    heads = (tmp_path / "heads/model.safetensors").stat().st_size
    assert heads < (tmp_path / "full/model.safetensors").stat().st_size / 2


def test_a_model_refuses_another_backbones_weights(
    built: tuple[MultiTaskModel, Tokenizer], tmp_path: Path
) -> None:
    model, _ = built
    folder = tmp_path / "m"
    save_model(model, trained=[], folder=folder, training={})
    config = folder / "config.json"
    config.write_text(config.read_text().replace(str(model.config.backbone_sha256), "0" * 64))
    with pytest.raises(BackboneError, match="sha256"):
        load_model(folder)


def test_a_cut_off_weights_file_is_an_error_of_one_line(
    built: tuple[MultiTaskModel, Tokenizer], tmp_path: Path
) -> None:
    model, _ = built
    save_model(model, trained=[], folder=tmp_path, training={})
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(ModelError, match=r"model\.safetensors cannot be read"):
        load_model(tmp_path)


def test_a_backbone_that_is_nowhere_is_named() -> None:
    with pytest.raises(BackboneError, match="no-such/backbone"):
        build_model(ModelConfig(backbone="no-such/backbone"))


def test_the_packaged_backbone_is_the_published_one() -> None:
    model, _ = build_model(ModelConfig())
    assert model.config.backbone_sha256 == (
        "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
    )
    assert model.encoder.projection.in_features == 384


def test_one_text_alone_is_refused_and_what_is_no_text_named_by_its_row(
    built: tuple[MultiTaskModel, Tokenizer],
) -> None:
    model, _ = built
    for call in (model.predict, model.encode, model.encoder.encode):
        with pytest.raises(TypeError, match=r"give a list of texts, as in \['match goal'\]"):
            call("match goal")
        with pytest.raises(TypeError, match="text 1 is None, not a string"):
            call(["match goal", None])  # type: ignore[list-item]


def test_a_name_that_is_no_models_lists_each_model_once() -> None:
    with pytest.raises(
        UnknownModelError, match=r"no model named 'nope'; there are: default, fast$"
    ):
        MultiTaskModel.from_pretrained("nope")
