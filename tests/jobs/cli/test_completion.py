"""What Tab offers, as each shell asks for it."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.shell_completion import ShellComplete
from specs import TRAIN_SPEC
from support import REPOSITORY

from jobs.cli.group import main
from jobs.ledger.ledger import Ledger
from jobs.settings import Settings, settings


def offered(line: str) -> list[str]:
    """What is offered for the last word of a line; files are left to the shell."""
    *words, incomplete = line.split(" ")
    found = ShellComplete(main, {}, "mtl", "_MTL_COMPLETE").get_completions(words[1:], incomplete)
    return ["(files)" if item.type == "file" else item.value for item in found]


@pytest.mark.parametrize(
    ("line", "offer"),
    [
        ("mtl st", ["status"]),
        ("mtl label --mod", ["--model"]),
        ("mtl label --model d", ["default"]),
        ("mtl label --embedding f", ["float32", "float16"]),
        ("mtl label --only s", ["sentiment"]),
        ("mtl label rev", ["(files)"]),
        ("mtl label in.csv -o o", ["(files)"]),
        ("mtl train --scenario fr", ["frozen", *(f"freeze-{part}" for part in
                                                 ("backbone", "topic-head", "sentiment-head"))]),
        ("mtl evaluate d", ["default"]),
        ("mtl collect ou", ["(files)"]),
        ("mtl status l", []),
    ],
)  # fmt: skip
def test_tab_offers(line: str, offer: list[str]) -> None:
    assert offered(line) == offer


def test_tab_offers_the_jobs_of_a_shared_redis(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MTL_REDIS_URL", redis_url)
    settings.cache_clear()
    ledger = Ledger(redis_url, Settings())
    for job in ("train-one", "train-two"):
        ledger.create(job, TRAIN_SPEC)
    for command in ("status", "cancel", "retry", "verify", "collect", "report"):
        assert sorted(offered(f"mtl {command} tr")) == ["train-one", "train-two"]
    ledger.redis.close()


def test_tab_offers_nothing_while_redis_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MTL_REDIS_URL", "redis://127.0.0.1:1/0")
    settings.cache_clear()
    assert offered("mtl status l") == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_takes_its_script(shell: str, tmp_path: Path) -> None:
    made = subprocess.run(
        [sys.executable, "-m", "jobs"],
        env={"_MTL_COMPLETE": f"{shell}_source", "PATH": "/usr/bin:/bin"},
        capture_output=True, text=True, check=True, cwd=REPOSITORY,
    )  # fmt: skip
    (tmp_path / "script").write_text(made.stdout)
    assert "mtl" in made.stdout
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed; its script was made")
    check = subprocess.run([shell, "-n", tmp_path / "script"], capture_output=True, text=True)
    assert (check.returncode, check.stderr) == (0, "")
