"""Which precision is fastest on this machine, as it was measured and kept."""

from dataclasses import asdict, replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from support import REPOSITORY

from jobs.cli.group import main
from jobs.label import rates
from jobs.label.rates import FILE, Rates, kept_rates, slower_than_float32
from jobs.settings import Settings, settings
from mtl_core.files import write_json


@pytest.fixture
def config(tmp_path: Path) -> Settings:
    return Settings(state_dir=tmp_path / "state", engine="torch")


def keep(config: Settings, found: Rates) -> None:
    config.state_dir.mkdir(exist_ok=True)
    write_json(config.state_dir / FILE, asdict(found))


def measured(config: Settings) -> Rates:
    return Rates(rates._here(config), "2026-01-02", {"float32": 1000.0, "int8": 800.0})


def test_kept_rates_are_those_of_this_machine_and_software(config: Settings) -> None:
    assert kept_rates(config) is None
    here = measured(config)
    keep(config, here)
    assert kept_rates(config) == here
    keep(config, replace(here, machine=replace(here.machine, chip="another")))
    assert kept_rates(config) is None
    (config.state_dir / FILE).write_text("{}")
    assert kept_rates(config) is None


def test_a_precision_that_is_slower_here_is_said(config: Settings) -> None:
    keep(config, measured(config))
    said = "int8 is slower on this machine: float32 is fastest here (float32 = 1: float32 1.00, "
    assert slower_than_float32(config, "int8").startswith(f"{said}int8 0.80")
    assert not slower_than_float32(config, "float32")
    assert not slower_than_float32(config, "bfloat16")  # not measured


def test_the_doctor_and_a_dry_run_say_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MTL_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("MTL_ENGINE", "torch")
    settings.cache_clear()
    assert "`mtl doctor --measure` does" in CliRunner().invoke(main, ["doctor"]).output
    keep(settings(), measured(settings()))
    assert "float32 is fastest here" in CliRunner().invoke(main, ["doctor"]).output
    asked = ["label", str(REPOSITORY / "examples/sentences.csv"), "-o", str(tmp_path / "out")]
    dry = CliRunner().invoke(main, [*asked, "--dry-run"])
    assert "float32 is fastest here" in dry.output, dry.output
    settings.cache_clear()
