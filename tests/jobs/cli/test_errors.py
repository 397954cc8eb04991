"""Every error of the catalogue, as a user meets it: one line with its code, and its exit code."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from jobs.cli.group import main
from mtl_core.errors import MtlError

UNREACHABLE = {"MTL_REDIS_URL": "redis://127.0.0.1:1/0"}


def below(error: type[MtlError]) -> list[type[MtlError]]:
    return [each for sub in error.__subclasses__() for each in (sub, *below(sub))]


# code -> command, settings
PROVOKED: dict[str, tuple[str, dict[str, str]]] = {
    "MTL-101": ("label nowhere.csv -o out", {}),
    "MTL-201": ("train --scenario full --name ../m --data data", {}),
    "MTL-202": ("label in.csv -o out --model defalt", {}),
    "MTL-203": ("label in.csv -o out --only topics", {}),
    "MTL-204": ("train --scenario freeze-bakbone --name m --data data", {}),
    "MTL-205": ("train --scenario full --name m --data data --backbone ./none", {}),
    "MTL-301": ("train --scenario full --name m --data nowhere", {}),
    "MTL-401": ("label in.csv -o in.csv", {}),
    "MTL-501": ("collect nowhere/ -o out.csv", {}),
    "MTL-601": ("models", {"MTL_ENGINE": "torhc"}),
    "MTL-701": ("status", UNREACHABLE),
}
OF_A_STORE = {"MTL-402", "MTL-403"}
"""A store that refuses or does not answer: see test_store.py."""
SUGGESTED = {"MTL-202": "default", "MTL-203": "topic", "MTL-204": "freeze-backbone"}


def test_every_error_of_the_catalogue_is_provoked() -> None:
    assert set(PROVOKED) | OF_A_STORE == {error.code for error in below(MtlError)}


@pytest.mark.parametrize("code", PROVOKED)
def test_an_error_is_one_line_with_its_code(
    code: str, tmp_path: Path, made_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from jobs.settings import settings

    command, environment = PROVOKED[code]
    (tmp_path / "in.csv").write_text("text,n\nA good film.,1\n")
    (tmp_path / "data").symlink_to(made_data)
    monkeypatch.chdir(tmp_path)
    for name, value in {"MTL_STATE_DIR": f"{tmp_path}/state", **environment}.items():
        monkeypatch.setenv(name, value)
    settings.cache_clear()
    result = CliRunner().invoke(main, command.split())
    (line,) = result.output.strip().splitlines()
    assert line.startswith("mtl: ")
    assert line.endswith(f"({code})")
    (error,) = (each for each in below(MtlError) if each.code == code)
    assert result.exit_code == error.exit_code
    if code in SUGGESTED:
        assert f"did you mean '{SUGGESTED[code]}'" in line
    assert not (tmp_path / "out").exists()
