"""Where a setting comes from: flags, environment, mtl.toml, defaults."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mtl_core.errors import SettingsError


def mtl_in(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "jobs", *arguments],
        cwd=folder,
        env={
            **{k: v for k, v in os.environ.items() if not k.startswith("MTL_")},
            "PYTHONPATH": str(Path(__file__).parents[1]),
            "XDG_CONFIG_HOME": str(folder / "config"),
            **environment,
        },
        capture_output=True,
        text=True,
        check=False,
    )


def settings_in(folder: Path, **environment: str) -> dict[str, tuple[str, str]]:
    rows = json.loads(mtl_in(folder, "config", "--json", **environment).stdout)
    return {row["setting"]: (row["value"], row["from"]) for row in rows}


def test_each_setting_shows_its_value_and_where_it_comes_from(tmp_path: Path) -> None:
    (tmp_path / "mtl.toml").write_text(
        'engine = "torch"\nlease_s = 20\nredis_url = "redis://:secret@host/0"\n'
        '[label]\nembedding = "none"\n'
    )
    found = settings_in(tmp_path, MTL_LEASE_S="30")
    assert found["engine"] == ("torch", "mtl.toml")
    assert found["lease_s"] == ("30.0", "environment")
    assert found["beat_s"] == ("2.0", "default")
    assert found["redis_url"] == ("redis://host/0", "mtl.toml")
    assert found["label.embedding"] == ("none", "mtl.toml")


def test_the_users_own_file_serves_where_the_folder_has_none(tmp_path: Path) -> None:
    folder = tmp_path / "config" / "mtl-batch"
    folder.mkdir(parents=True)
    (folder / "mtl.toml").write_text("threads = 3\n")
    assert settings_in(tmp_path)["threads"] == ("3", str(folder / "mtl.toml"))
    (tmp_path / "other.toml").write_text("threads = 4\n")
    assert settings_in(tmp_path, MTL_CONFIG="other.toml")["threads"] == ("4", "other.toml")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("engin = 'torch'", "mtl.toml: no setting 'engin'; did you mean 'engine'?"),
        ("lease_s = 'long'", "mtl.toml: lease_s='long': input should be a valid number"),
        ("engine = torch", "mtl.toml: cannot be read ("),
        ("[label]\nembeding = 'none'", "`mtl label` has no option 'embeding'; did you mean"),
        ("[lable]\nembedding = 'none'", "mtl.toml: no command 'lable'; did you mean 'label'?"),
    ],
)
def test_a_mistake_in_the_file_is_one_line_with_a_suggestion(
    content: str, message: str, tmp_path: Path
) -> None:
    (tmp_path / "mtl.toml").write_text(content)
    done = mtl_in(tmp_path, "label", "missing.csv", "-o", "out")
    assert message in done.stderr
    assert (done.returncode, done.stderr.count("\n")) == (SettingsError.exit_code, 1)


def test_flags_win_over_the_environment_and_that_over_the_file(tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("a,b\nx,y\n")
    missing = mtl_in(tmp_path, "label", "in.csv", "-o", "out")
    assert "several columns could hold the text (a, b)" in missing.stderr  # the default: to find it
    (tmp_path / "mtl.toml").write_text('[label]\ntext-column = ["c"]\n')
    missing = mtl_in(tmp_path, "label", "in.csv", "-o", "out")
    assert "no column 'c'" in missing.stderr
    missing = mtl_in(tmp_path, "label", "in.csv", "-o", "out", MTL_LABEL_TEXT_COLUMN="d")
    assert "no column 'd'" in missing.stderr
    missing = mtl_in(tmp_path, "label", "in.csv", "-o", "out", "--text-column", "e",
                     MTL_LABEL_TEXT_COLUMN="d")  # fmt: skip
    assert "no column 'e'" in missing.stderr
