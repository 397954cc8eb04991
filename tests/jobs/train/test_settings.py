"""Settings of a training run that ``--set`` changes."""

import pytest

from jobs.settings import settings
from jobs.train.request import TrainRequest, command_of, parse_settings, train_spec
from mtl_core.config import train_config
from mtl_core.errors import SettingsError


def test_values_are_read_by_the_settings_own_types() -> None:
    given = ["batch_rows=256", "backbone_learning_rate=3e-4", "balance_classes=true"]
    assert parse_settings(given) == {
        "batch_rows": 256,
        "backbone_learning_rate": 0.0003,
        "balance_classes": True,
    }


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("batch_row=3", "no setting 'batch_row'; did you mean 'batch_rows'"),
        ("batch_rows=many", "'many' is no value of batch_rows"),
        ("similarity_weight=nan", "finite"),
        ("precision=fp8", "'fp8' is no value of precision"),
        ("batch_rows", "'' is no value of batch_rows"),
        ("epochs=3", "give --epochs instead"),
        ("scenario=full", "give --scenario instead"),
    ],
)
def test_what_cannot_be_set_is_said_in_one_line(given: str, said: str) -> None:
    with pytest.raises(SettingsError) as found:
        parse_settings([given])
    assert said in str(found.value)
    assert f"--set {given}" in str(found.value)
    assert "\n" not in str(found.value)


@pytest.mark.parametrize(
    ("setting", "value"),
    [("batch_rows", 0), ("token_masking", 1.5), ("head_learning_rate", -1.0), ("max_tokens", 2)],
)
def test_values_out_of_range_are_refused(setting: str, value: float) -> None:
    with pytest.raises(SettingsError, match=setting):
        train_config("recommended", **{setting: value})
    request = TrainRequest("recommended", changes={setting: value})
    with pytest.raises(SettingsError, match=setting):
        train_spec(request, "full", "m", settings())


def test_the_command_in_the_card_names_what_was_set() -> None:
    changes = {"epochs": 1, **parse_settings(["batch_rows=256"])}
    command = command_of(TrainRequest("recommended", changes=changes), "full", "m", local=True)
    assert "--epochs 1 --set batch_rows=256" in command
