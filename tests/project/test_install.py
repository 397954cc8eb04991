"""`make setup` installs by uv what pip has been told to find."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
from support import REPOSITORY

SPEC = importlib.util.spec_from_file_location("install", REPOSITORY / "deploy" / "install.py")
assert SPEC is not None
assert SPEC.loader is not None
install = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(install)


@pytest.fixture
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """What pip says of a file and of variables."""
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    (tmp_path / "pip.conf").write_text(
        "[global]\nindex-url = https://mirror.example/simple\nfind-links = /wheels\n"
        "extra-index-url =\n    https://one.example/simple\n    https://two.example/simple\n"
        "[install]\ntrusted-host = mirror.example\n"
    )
    monkeypatch.setenv("PIP_CONFIG_FILE", str(tmp_path / "pip.conf"))
    monkeypatch.setenv("PIP_FIND_LINKS", "/more /wheels")
    return install.told_to_pip(install.config_of_pip())


def test_indexes_and_folders_told_to_pip_are_uvs(told: dict[str, str]) -> None:
    passed = install.for_uv(told, {})
    assert passed["UV_DEFAULT_INDEX"] == "https://mirror.example/simple"
    assert passed["UV_INDEX"] == "https://one.example/simple https://two.example/simple"
    assert passed["UV_INSECURE_HOST"] == "mirror.example"


def test_a_variable_of_pips_wins_over_its_file(told: dict[str, str]) -> None:
    assert install.for_uv(told, {})["UV_FIND_LINKS"] == "/more,/wheels"


def test_what_uv_has_been_told_itself_stays(told: dict[str, str]) -> None:
    own = {"UV_DEFAULT_INDEX": "https://own.example/simple"}
    assert install.for_uv(told, own)["UV_DEFAULT_INDEX"] == "https://own.example/simple"


def test_the_best_version_of_all_indexes_is_taken_as_pip_does() -> None:
    assert install.for_uv({}, {})["UV_INDEX_STRATEGY"] == "unsafe-best-match"


def test_where_uv_cannot_be_had_pip_installs_and_a_line_says_so(tmp_path: Path) -> None:
    fake = tmp_path / "pip"
    fake.mkdir()
    # A pip that has no uv, and notes what else it is asked for.
    (fake / "__main__.py").write_text(
        "import sys\nif sys.argv[-1] == 'uv': sys.exit('no such package')\n"
        "if 'install' in sys.argv: print(*sys.argv[1:])\n"
    )
    (fake / "__init__.py").touch()
    done = subprocess.run(
        [sys.executable, str(REPOSITORY / "deploy" / "install.py"), ".[int8]"],
        env={**os.environ, "PYTHONPATH": str(tmp_path)}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0
    assert done.stdout.rstrip().endswith("--editable .[int8]")
    assert done.stderr.splitlines()[-1].startswith("setup: uv did not install it")
