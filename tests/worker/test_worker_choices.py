"""Which queues a worker serves, and which GPU each of its children takes."""

import os
from pathlib import Path

import pytest

from jobs.ledger.messages import queues_of
from mtl_core.errors import SettingsError
from worker.process.cards import VISIBLE, choose_card


def test_a_kind_stands_for_its_queues_of_every_priority() -> None:
    assert queues_of("label") == ["label.high", "label", "label.low"]
    assert queues_of("train.high,label.low") == ["train.high", "label.low"]
    assert set(queues_of(None)) == set(queues_of("label")) | set(queues_of("train"))


def test_an_unknown_queue_is_refused_by_name() -> None:
    with pytest.raises(SettingsError, match=r"no queue .lable.; there are label\.high"):
        queues_of("train,lable")


def card_of(child: int, devices: Path) -> str | None:
    choose_card(child, devices)
    return os.environ.get(VISIBLE)


def test_each_child_takes_a_card_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(VISIBLE, raising=False)
    assert card_of(0, tmp_path) is None
    for name in ("nvidia0", "nvidia1", "nvidiactl", "nvidia-uvm"):
        (tmp_path / name).touch()
    for child, card in enumerate(["0", "1", "0"]):
        monkeypatch.delenv(VISIBLE, raising=False)
        assert card_of(child, tmp_path) == card
    monkeypatch.setenv(VISIBLE, "3,5")
    assert card_of(1, tmp_path) == "5"
    monkeypatch.setenv(VISIBLE, "")
    assert card_of(1, tmp_path) == ""
