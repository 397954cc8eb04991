"""Which queues a worker serves, and which GPU each of its children takes."""

import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobs.ledger.messages import queues_of
from mtl_core.errors import SettingsError
from worker.process import cards
from worker.process.cards import VISIBLE, cards_here, choose_card


def test_a_kind_stands_for_its_queues_of_every_priority() -> None:
    assert queues_of("label") == ["label.high", "label", "label.low"]
    assert queues_of("train.high,label.low") == ["train.high", "label.low"]
    assert set(queues_of(None)) == set(queues_of("label")) | set(queues_of("train"))


def test_an_unknown_queue_is_refused_by_name() -> None:
    with pytest.raises(SettingsError, match=r"no queue .lable.; there are label\.high"):
        queues_of("train,lable")


def card_of(child: int, devices: Path, claims: str) -> str | None:
    choose_card(child, devices, claims)
    return os.environ.get(VISIBLE)


@pytest.fixture
def devices(tmp_path: Path) -> Path:
    for name in ("nvidia0", "nvidia1", "nvidiactl", "nvidia-uvm"):
        (tmp_path / name).touch()
    return tmp_path


@pytest.fixture
def claims() -> Iterator[str]:
    """A name that no other run of the tests claims cards by; all claims are let go at the end."""
    yield f"mtl-test-{uuid.uuid4().hex}"
    while cards._claims:
        cards._claims.pop().close()


def test_a_machine_without_cards_has_nothing_to_choose(
    tmp_path: Path, claims: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(VISIBLE, raising=False)
    assert card_of(0, tmp_path, claims) is None
    assert cards_here(tmp_path) == []


def test_each_child_takes_a_card_of_its_own_and_shares_when_there_is_none_left(
    devices: Path, claims: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(VISIBLE, raising=False)
    assert cards_here(devices) == ["0", "1"]
    for child, card in enumerate(["0", "1", "0"]):
        monkeypatch.delenv(VISIBLE, raising=False)
        assert card_of(child, devices, claims) == card
    monkeypatch.setenv(VISIBLE, "3,5")
    assert card_of(1, devices, claims) == "5"
    monkeypatch.setenv(VISIBLE, "")
    assert card_of(1, devices, claims) == ""


CHOOSING = """
import os, sys
from pathlib import Path
from worker.process.cards import VISIBLE, cards_here, choose_card
os.environ.pop(VISIBLE, None)
sys.stdin.readline()
choose_card(0, Path(sys.argv[1]), sys.argv[2])
print(os.environ[VISIBLE], flush=True)
sys.stdin.readline()
"""


def test_two_workers_that_start_at_once_take_different_cards_and_a_dead_ones_card_is_free(
    devices: Path, claims: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", CHOOSING, str(devices), claims],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        for _ in range(2)
    ]  # fmt: skip
    taken = []
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in processes:
        assert process.stdout is not None
        taken.append(process.stdout.readline().strip())
    assert sorted(taken) == ["0", "1"]
    processes[0].kill()
    processes[0].communicate()
    monkeypatch.delenv(VISIBLE, raising=False)
    assert card_of(0, devices, claims) == taken[0]
    processes[1].communicate("end\n")
