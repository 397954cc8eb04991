"""Training: what is frozen stays, both tasks take part, an interrupted run loses nothing."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from loops import loop_over, settings
from support import made_texts

from mtl_core.config import DEFAULT_BACKBONE, ModelConfig, train_config
from mtl_core.data.draws import balance_classes, containment_groups, split_held_out
from mtl_core.data.splits import LabelledTexts, load_split
from mtl_core.data.stsb import load_pairs
from mtl_core.errors import DataError, ModelError, SettingsError, UnknownScenarioError
from mtl_core.evaluation.similarity import SimilarityProbe
from mtl_core.model.backbones import resolve_backbone
from mtl_core.model.batches import batches_by_length
from mtl_core.model.layers import transformer_layers
from mtl_core.model.network import MultiTaskModel, build_model, load_model
from mtl_core.model.tokenizer import load_tokenizer
from mtl_core.tasks import SENTIMENT, TOPIC
from mtl_core.training.checkpoint import CheckpointFolder
from mtl_core.training.kept.boundary import frozen_layers
from mtl_core.training.kept.published import published_pass
from mtl_core.training.loop import Step, TrainingLoop, epoch_batches, linear_schedule
from mtl_core.training.losses import similarity_loss
from mtl_core.training.preparation import encode_splits
from mtl_core.training.run import TrainingRun
from mtl_core.training.scenario_names import scenario_help
from mtl_core.training.scenarios import apply_scenario, set_training_mode
from mtl_core.training.start import principal_components, start_projection

# Which parts a scenario may change, by the first words of the parameters' names.
TRAINS = {
    "frozen": (),
    "freeze-backbone": ("encoder.projection", "heads", "logit_scales"),
    "freeze-topic-head": (
        *("encoder.backbone", "encoder.projection"),
        *("heads.sentiment", "logit_scales.sentiment"),
    ),
    "freeze-sentiment-head": (
        *("encoder.backbone", "encoder.projection"),
        *("heads.topic", "logit_scales.topic"),
    ),
    "last-layers": (
        *("encoder.backbone.encoder.layer.2", "encoder.backbone.encoder.layer.3"),
        *("encoder.projection", "heads", "logit_scales"),
    ),
    "full": ("encoder", "heads", "logit_scales"),
}


def weights(model: MultiTaskModel) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in model.named_parameters()}


def test_every_scenario_is_tested() -> None:
    assert set(TRAINS) == set(scenario_help())


@pytest.mark.parametrize("scenario", TRAINS)
def test_frozen_parameters_stay_byte_identical(
    scenario: str, made_data: Path, tiny_backbone: Path
) -> None:
    loop, model = loop_over(made_data, tiny_backbone, settings(scenario=scenario))
    before = weights(model)
    loop.run()
    for name, value in weights(model).items():
        if not name.startswith(TRAINS[scenario] or ("nothing",)):
            assert torch.equal(value, before[name]), name
        elif value.ndim == 2 and "token_type" not in name:
            assert not torch.equal(value, before[name]), name


@pytest.mark.parametrize("scenario", TRAINS)
def test_dropout_is_off_in_frozen_parts_and_on_in_trained_ones(
    scenario: str, tiny_backbone: Path
) -> None:
    model, _ = build_model(ModelConfig(backbone=str(tiny_backbone)))
    apply_scenario(model, settings(scenario=scenario))
    set_training_mode(model)
    layers = transformer_layers(model.encoder.backbone)
    full = scenario.startswith(("full", "freeze-topic", "freeze-sent"))
    assert model.encoder.backbone.embeddings.dropout.training is full
    assert layers[0].output.dropout.training is full
    assert layers[-1].output.dropout.training is (full or scenario == "last-layers")


def test_a_frozen_run_scores_and_changes_nothing(made_data: Path, tiny_backbone: Path) -> None:
    loop, _ = loop_over(made_data, tiny_backbone, settings(scenario="frozen"))
    history = loop.run()
    assert [record["step"] for record in history] == [0]
    assert set(history[0]["held_out"]) == {"topic", "sentiment"}


def test_unknown_scenario_lists_those_there_are(tiny_backbone: Path) -> None:
    model, _ = build_model(ModelConfig(backbone=str(tiny_backbone)))
    with pytest.raises(UnknownScenarioError, match="freeze-backbone"):
        apply_scenario(model, settings(scenario="melt"))


def test_more_layers_than_there_are_is_an_error(tiny_backbone: Path) -> None:
    model, _ = build_model(ModelConfig(backbone=str(tiny_backbone)))
    with pytest.raises(ModelError, match="has 4 layers, --layers asks for 9"):
        apply_scenario(model, settings(scenario="last-layers", layers=9))


def test_both_tasks_are_in_every_epoch_and_every_row_once(
    made_data: Path, tiny_backbone: Path
) -> None:
    loop, _ = loop_over(made_data, tiny_backbone, settings(epochs=2))
    for epoch in range(2):
        seen: dict[str, list[int]] = {"topic": [], "sentiment": []}
        for task, rows in epoch_batches(loop.training, 16, seed=3, epoch=epoch):
            seen[task] += rows.tolist()
        for task, rows_seen in seen.items():
            assert sorted(rows_seen) == list(range(len(loop.training[task].ids)))


def test_training_learns_both_tasks(made_data: Path, tiny_backbone: Path) -> None:
    config = settings(epochs=8, backbone_learning_rate=1e-3, head_learning_rate=1e-2)
    loop, _ = loop_over(made_data, tiny_backbone, config)
    last = loop.run()[-1]["held_out"]
    assert last["topic"]["accuracy"] > 0.9
    assert last["sentiment"]["accuracy"] > 0.9


def test_a_run_resumed_from_any_checkpoint_ends_as_if_never_stopped(
    made_data: Path, tiny_backbone: Path, tmp_path: Path
) -> None:
    config = settings(epochs=2, checkpoint_steps=3)
    undisturbed, expected = loop_over(made_data, tiny_backbone, config)
    history = undisturbed.run()

    class Killed(Exception):
        pass

    def stop_at(step: Step) -> None:
        if step.step >= 20:
            raise Killed

    checkpoints = CheckpointFolder(tmp_path, "run")
    broken, _ = loop_over(made_data, tiny_backbone, config, checkpoints=checkpoints, report=stop_at)
    with pytest.raises(Killed):
        broken.run()
    state = checkpoints.newest()
    assert state is not None
    assert state.step == 18
    resumed, model = loop_over(made_data, tiny_backbone, config, checkpoints=checkpoints)
    again = resumed.run()
    assert again == history
    for name, value in weights(model).items():
        assert torch.equal(value, dict(expected.named_parameters())[name]), name


def test_a_damaged_checkpoint_gives_way_to_the_one_before(
    made_data: Path, tiny_backbone: Path, tmp_path: Path
) -> None:
    checkpoints = CheckpointFolder(tmp_path, "run")
    config = settings(checkpoint_steps=3)
    loop, _ = loop_over(made_data, tiny_backbone, config, checkpoints=checkpoints)
    loop.run()
    older, newer = sorted(tmp_path.glob("*.safetensors"))
    newer.write_bytes(newer.read_bytes()[:-1] + b"x")
    state = checkpoints.newest()
    assert state is not None
    assert f"{state.step:08d}" in older.name


def test_another_runs_checkpoint_is_left_alone(
    made_data: Path, tiny_backbone: Path, tmp_path: Path
) -> None:
    loop, _ = loop_over(
        made_data, tiny_backbone, settings(), checkpoints=CheckpointFolder(tmp_path, "one")
    )
    loop.run()
    assert CheckpointFolder(tmp_path, "other").newest() is None


@pytest.mark.parametrize("scenario", ["freeze-backbone", "last-layers"])
def test_training_on_what_was_kept_is_training_through_the_backbone(
    scenario: str, made_data: Path, tiny_backbone: Path, tmp_path: Path
) -> None:
    config = settings(
        scenario=scenario,
        epochs=2,
        head_learning_rate=1e-3,
        similarity_weight=0.0,
        projection_start="random",
        token_masking=0.0,
    )
    through, through_model = loop_over(made_data, tiny_backbone, config)
    through.run()
    plain, kept_model = loop_over(made_data, tiny_backbone, config)
    splits = {name: (e.data, plain.held_out[name].data) for name, e in plain.training.items()}
    training, held_out = encode_splits(splits, kept_model, plain.tokenizer, config, tmp_path, {})
    assert all(
        (e.activations if scenario == "last-layers" else e.pooled) is not None
        for e in training.values()
    )
    TrainingLoop(kept_model, plain.tokenizer, training, held_out, config).run()
    for name, value in weights(kept_model).items():
        torch.testing.assert_close(
            value, dict(through_model.named_parameters())[name], atol=2e-3, rtol=0, msg=name
        )


@pytest.mark.parametrize("layer", [0, 2])
def test_openvino_and_torch_run_the_backbone_alike(layer: int, tiny_backbone: Path) -> None:
    pytest.importorskip("openvino")
    model, tokenizer = build_model(ModelConfig(backbone=str(tiny_backbone)))
    batch = tokenizer.pad(tokenizer(["good film", "a much longer text about war and goals"]))
    one, other = (
        published_pass(model.encoder, tokenizer, "float32", layer, tokens)(*batch)
        for tokens in (0, 10**9)
    )
    assert [values.shape for values in one] == [values.shape for values in other]
    assert len(one) == (2 if layer else 1)
    for mine, theirs in zip(one, other, strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-4)


def test_nothing_is_kept_where_nothing_below_stays(made_data: Path, tiny_backbone: Path) -> None:
    for scenario, layers in (("full", 1), ("last-layers", 1), ("last-layers", 4)):
        loop, model = loop_over(
            made_data, tiny_backbone, settings(scenario=scenario, layers=layers)
        )
        below = 3 if (scenario, layers) == ("last-layers", 1) else 0
        assert frozen_layers(model, loop.trained) == below


def test_the_similarity_term_keeps_cosines_near_the_backbones(
    made_data: Path, tiny_backbone: Path, tmp_path: Path
) -> None:
    def drift(weight: float) -> float:
        TrainingRun(
            settings(similarity_weight=weight, epochs=4, backbone_learning_rate=1e-3),
            ModelConfig(backbone=str(tiny_backbone)),
            made_data,
            tmp_path / f"m{weight}",
            name="m",
            command="",
        ).run()
        model = load_model(tmp_path / f"m{weight}").model
        texts = load_split(TOPIC, "test", made_data).texts
        published, _ = build_model(ModelConfig(backbone=str(tiny_backbone)))
        ids, mask = model.tokenizer.pad(model.tokenizer(texts))
        with torch.inference_mode():
            pooled = published.eval().encoder.pool(ids, mask)
            return float(similarity_loss(model.encoder(ids, mask), pooled))

    assert drift(20.0) < 0.5 * drift(0.0)


def test_similarity_is_followed_through_a_run_whose_backbone_is_frozen(
    tiny_backbone: Path, tmp_path: Path
) -> None:
    pairs = write_pairs(tmp_path)
    model, tokenizer = build_model(ModelConfig(backbone=str(tiny_backbone)))
    stsb = load_pairs(tmp_path)
    probe = SimilarityProbe(model.encoder, tokenizer, stsb, "float32", frozen=True)
    before = probe()
    torch.nn.init.normal_(model.encoder.projection.weight)
    after, anew = probe(), SimilarityProbe(model.encoder, tokenizer, stsb, "float32")()
    assert after == anew != before
    assert after is not None
    assert after["pairs"] == pairs
    assert load_pairs(tmp_path / "nowhere") is None
    assert SimilarityProbe(model.encoder, tokenizer, None)() is None


def write_pairs(folder: Path) -> int:
    """Write an STS-B validation file of made texts; returns its number of pairs."""
    texts, _ = made_texts("topic", 40, seed=6)
    columns = {
        "sentence1": texts[:20],
        "sentence2": texts[20:],
        "score": np.random.default_rng(6).random(20),
    }
    (folder / "stsb").mkdir()
    pq.write_table(pa.table(columns), folder / "stsb" / "validation.parquet")
    return 20


def test_the_projection_starts_as_the_components_that_keep_cosines() -> None:
    generator = np.random.default_rng(5)
    # 40 numbers of which 16 directions hold nearly all.
    spread = np.concatenate([np.full(16, 1.0), np.full(24, 0.02)])
    turn = np.linalg.qr(generator.normal(size=(40, 40)))[0]
    vectors = (generator.normal(size=(20_000, 40)) * spread @ turn).astype(np.float16)
    pooled = torch.from_numpy(vectors[:200].astype(np.float32))
    torch.manual_seed(0)
    projection = torch.nn.Linear(40, 16)

    def loss() -> float:
        return similarity_loss(torch.nn.functional.normalize(projection(pooled)), pooled).item()

    drawn, size = loss(), projection(pooled).std().item()
    start_projection(projection, principal_components([vectors, vectors[:100]]))
    assert loss() < 0.01 * drawn
    assert projection(pooled).std().item() == pytest.approx(size, rel=0.5)


def test_a_projection_wider_than_the_backbone_keeps_its_other_rows() -> None:
    projection = torch.nn.Linear(8, 12)
    other = projection.weight[8:].clone()
    start_projection(projection, torch.eye(8))
    assert torch.equal(projection.weight[8:], other)
    torch.testing.assert_close(projection.weight[:8], 0.5**0.5 * torch.eye(8))


@pytest.mark.parametrize(
    ("frozen_weights", "field"), [(False, "weight"), (True, "weight"), (True, "frozen_weight")]
)
def test_a_tasks_weight_scales_its_gradient(
    frozen_weights: bool, field: str, made_data: Path, tiny_backbone: Path
) -> None:
    config = settings(scenario="freeze-backbone", frozen_weights=frozen_weights, pooled_dropout=0.0)

    def after_one_step(weight: float) -> torch.Tensor:
        loop, model = loop_over(made_data, tiny_backbone, config)
        encoded = loop.training["topic"]
        task = replace(encoded.data.task, **{field: weight})
        loop.training["topic"] = replace(encoded, data=replace(encoded.data, task=task))
        loop._train_step("topic", np.arange(16), 1)
        gradient = model.heads["topic"].weight.grad
        assert gradient is not None
        return gradient

    one, two = after_one_step(0.001), after_one_step(0.002)  # below the clipping norm
    torch.testing.assert_close(two, 2 * one)


def test_a_run_ends_with_the_mean_of_its_weights_and_scores_them(
    made_data: Path, tiny_backbone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Over all steps the exponential average is the plain mean of the weights after each.
    loop, model = loop_over(made_data, tiny_backbone, settings(average_share=1.0))
    after_steps, scored = [], []
    update = loop._weights.update_average

    def note(share: float) -> None:
        after_steps.append(weights(model))
        update(share)

    monkeypatch.setattr(loop._weights, "update_average", note)
    loop.similarity = lambda: scored.append(weights(model))
    loop.run()
    for name, value in weights(model).items():
        mean = torch.stack([each[name] for each in after_steps]).mean(dim=0)
        torch.testing.assert_close(value, mean, atol=1e-5, rtol=1e-4)
        assert torch.equal(value, scored[-1][name])
    assert not torch.equal(after_steps[-1]["heads.topic.weight"], model.heads["topic"].weight)


def test_a_share_of_the_tokens_is_masked_but_no_special_one() -> None:
    files = resolve_backbone(DEFAULT_BACKBONE)
    tokenizer = load_tokenizer(files, 64)
    ids, _ = tokenizer.pad(tokenizer(["a film of some length about a dog"] * 500 + ["short"]))
    torch.manual_seed(0)
    masked = tokenizer.mask_at_random(ids, 0.1)
    special = torch.isin(ids, torch.tensor(tokenizer.special_token_ids))
    changed = masked != ids
    assert not changed[special].any()
    assert set(masked[changed].tolist()) == {tokenizer.mask_token_id}
    assert 0.08 < changed.sum() / (~special).sum() < 0.12
    assert torch.equal(tokenizer.mask_at_random(ids, 0.0), ids)


def test_a_training_step_sees_masked_tokens(made_data: Path, tiny_backbone: Path) -> None:
    loop, _ = loop_over(made_data, tiny_backbone, settings(token_masking=0.999))
    encoded, rows = loop.training["topic"], np.arange(8)
    loop.model.eval()
    assert not torch.allclose(
        loop._embed(encoded, rows),
        loop.model.encoder(*loop.tokenizer.pad(encoded.ids.take(np.arange(8)))),
    )


def test_pooled_vectors_are_dropped_out_in_training_alone(
    made_data: Path, tiny_backbone: Path
) -> None:
    config = settings(scenario="freeze-backbone", pooled_dropout=0.5)
    loop, model = loop_over(made_data, tiny_backbone, config)
    encoded, rows = loop.training["topic"], np.arange(8)
    model.eval()
    assert not torch.equal(loop._embed(encoded, rows), loop._embed(encoded, rows))
    assert np.array_equal(loop.held_out_logits("topic"), loop.held_out_logits("topic"))


def test_a_scenarios_own_settings_give_way_to_those_asked_for() -> None:
    own = train_config("recommended", scenario="freeze-backbone")
    assert own.epochs > train_config("recommended").epochs
    assert own.frozen_weights
    assert train_config("recommended", scenario="freeze-backbone", epochs=2).epochs == 2
    assert train_config("reference", scenario="freeze-backbone").epochs == 3
    assert not train_config("reference", scenario="freeze-backbone").frozen_weights


def test_the_learning_rate_rises_then_falls_to_nothing() -> None:
    factors = [linear_schedule(step, 100, 0.1) for step in range(101)]
    assert factors[0] < 0.1
    assert max(factors) == factors[10] == 1.0
    assert factors[100] == 0.0
    assert linear_schedule(0, 100, 0.0) == 1.0


@pytest.mark.parametrize(("preset", "scale"), [("reference", 1.0), ("recommended", 30.0)])
def test_a_run_starts_from_its_presets_logit_scale(
    preset: str, scale: float, made_data: Path, tiny_backbone: Path, tmp_path: Path
) -> None:
    config = train_config(preset, scenario="frozen")
    TrainingRun(
        config, ModelConfig(str(tiny_backbone)), made_data, tmp_path / "m", name="m", command=""
    ).run()
    model = load_model(tmp_path / "m").model
    assert {each.item() for each in model.logit_scales.values()} == {scale}


def test_a_whole_run_leaves_a_model_directory(
    made_data: Path, tiny_backbone: Path, tmp_path: Path
) -> None:
    trained = TrainingRun(
        settings(scenario="freeze-backbone"),
        ModelConfig(backbone=str(tiny_backbone)),
        made_data,
        tmp_path / "m",
        name="m",
        command="mtl train --name m",
    ).run()
    names = {path.name for path in (tmp_path / "m").iterdir()}
    assert names >= {
        "model.safetensors",
        "config.json",
        "metrics.json",
        "history.json",
        "README.md",
        "suspects.csv",
    }
    assert trained.metrics["topic"]["rows"] == 60
    facts = json.loads((tmp_path / "m/metrics.json").read_text())
    assert facts["calibration"]["topic"]["ece_after"] >= 0
    assert facts["samples"]["sentiment"][0].keys() == {"text", "expected", "predicted", "score"}
    assert load_model(tmp_path / "m").model.config.calibration["topic"].temperature > 0
    card = (tmp_path / "m/README.md").read_text()
    assert "mtl train --name m" in card
    assert "non-commercial" in card


def test_scalars_are_written_for_tensorboard(
    made_data: Path, tiny_backbone: Path, tmp_path: Path
) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    TrainingRun(
        settings(scenario="freeze-backbone", epochs=2), ModelConfig(backbone=str(tiny_backbone)),
        made_data, tmp_path / "m", name="m", command="",
    ).run()  # fmt: skip
    events = accumulator.EventAccumulator(str(tmp_path / "m/tensorboard"))
    events.Reload()
    assert {"loss", "held out accuracy/topic", "epoch loss/similarity"} <= set(
        events.Tags()["scalars"]
    )
    assert len(events.Scalars("held out f1/sentiment")) == 2


# --- data


def test_held_out_rows_keep_the_classes_shares() -> None:
    data = LabelledTexts(TOPIC, [f"a{row} b{row}" for row in range(160)], np.arange(160) % 4)
    train, held_out = split_held_out(data, 0.25, seed=1)
    assert not set(train.texts) & set(held_out.texts)
    assert len(train) + len(held_out) == len(data)
    assert np.bincount(held_out.labels).tolist() == [10, 10, 10, 10]


def test_balancing_gives_every_class_the_smallest_ones_rows(made_data: Path) -> None:
    data = load_split(TOPIC, "train", made_data)
    uneven = data.take(np.flatnonzero((data.labels != 2) | (np.arange(len(data)) < 40)))
    balanced = balance_classes(uneven, seed=1)
    assert np.bincount(balanced.labels).tolist() == [10, 10, 10, 10]


def test_batches_hold_every_row_once_and_like_lengths() -> None:
    lengths = np.random.default_rng(0).integers(3, 60, 1000)
    batches = list(batches_by_length(lengths, 16, np.random.default_rng(1)))
    assert sorted(np.concatenate(batches).tolist()) == list(range(1000))
    padded = sum(len(rows) * lengths[rows].max() for rows in batches)
    assert padded < 1.1 * lengths.sum()


def test_texts_within_a_longer_text_are_of_its_group() -> None:
    texts = ["a dull film about war", "Dull film", "war", "a film", "about war", "dull  film"]
    groups = containment_groups(texts)
    assert groups.tolist() == [0, 0, 0, 3, 0, 0]


def test_held_out_rows_share_no_phrase_with_rows_trained_on() -> None:
    sentences = [f"w{i} x{i} y{i} z{i}" for i in range(40)]
    texts = [part for s in sentences for part in (s, s.split(" ", 1)[1], s.rsplit(" ", 1)[0])]
    data = LabelledTexts(SENTIMENT, texts, np.arange(120) % 2)
    train, held_out = split_held_out(data, 0.2, seed=1)
    assert len(train) + len(held_out) == 120
    assert not any(a in b or b in a for a in held_out.texts for b in train.texts)


def test_a_missing_split_says_where_it_should_be(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"sst2/validation\.parquet"):
        load_split(SENTIMENT, "validation", tmp_path)


def test_a_label_out_of_range_is_named_with_its_row(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    (tmp_path / "sst2").mkdir()
    table = pa.table({"sentence": ["a", "b"], "label": [0, 7]})
    pq.write_table(table, tmp_path / "sst2/train.parquet")
    with pytest.raises(DataError, match="row 1 has label 7"):
        load_split(SENTIMENT, "train", tmp_path)


def test_settings_out_of_range_are_refused() -> None:
    with pytest.raises(SettingsError, match="epochs is 0"):
        train_config("recommended", epochs=0)
    with pytest.raises(SettingsError, match="no preset named 'quick'"):
        train_config("quick")
