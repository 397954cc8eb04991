"""Where a setting comes from: flags, environment, mtl.toml, defaults."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from support import REPOSITORY

from mtl_core.errors import SettingsError


def mtl_in(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "jobs", *arguments],
        cwd=folder,
        env={
            **{k: v for k, v in os.environ.items() if not k.startswith("MTL_")},
            "PYTHONPATH": str(REPOSITORY),
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
        ("lease_s = 1\nbeat_s = 5", "beat_s=5: must be at most half of lease_s, "),
        ("lease_s = 3", "default: beat_s=2.0: must be at most half of lease_s"),
        ("lease_s = inf", "mtl.toml: lease_s=inf: input should be "),
        ("stall_s = nan", "mtl.toml: stall_s=nan: input should be "),
        ("reconcile_s = -1", "mtl.toml: reconcile_s=-1: input should be greater than 0"),
        ("cache_gb = 0", "mtl.toml: cache_gb=0: input should be greater than 0"),
        ("threads = 0", "mtl.toml: threads=0: input should be greater than or equal to 1"),
        ("max_attempts = true", "max_attempts=True: must be a number or a text"),
        ('state_dir = ""', "state_dir='': must not be empty"),
        ("[label]\nembedding = ['none']", "label.embedding = ['none']: takes one value, no list"),
        ("[label]\nlimit = 1.5", "label.limit = 1.5: '1.5' is not a valid integer"),
        ("[label]\nid_column = true", "label.id_column = True: takes a text or a number"),
        ("[label]\ntext_column = [['a']]", "takes no value within another"),
        ("[label]\nshard_rows = 0", "label.shard_rows = 0: 0 is not in the range"),
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


def test_an_option_given_several_times_takes_a_single_text_and_names_with_spaces(
    tmp_path: Path,
) -> None:
    (tmp_path / "in.csv").write_text("my text,b\nx,y\n")
    (tmp_path / "mtl.toml").write_text('[label]\ntext_column = "no such"\n')
    missing = mtl_in(tmp_path, "label", "in.csv", "-o", "out")
    assert "no column 'no such'" in missing.stderr
    one = mtl_in(tmp_path, "label", "in.csv", "-o", "out", MTL_LABEL_TEXT_COLUMN="his text")
    assert "no column 'his text'; did you mean 'my text'?" in one.stderr
    two = mtl_in(tmp_path, "label", "in.csv", "-o", "out", MTL_LABEL_TEXT_COLUMN="my text\nc")
    assert "no column 'c'" in two.stderr


def test_an_empty_variable_is_none_and_a_home_folder_is_found(tmp_path: Path) -> None:
    (tmp_path / "mtl.toml").write_text('state_dir = "~/state"\n')
    found = settings_in(tmp_path, MTL_REDIS_URL="", MTL_LEASE_S="", HOME=str(tmp_path))
    assert found["redis_url"] == ("unset", "default")
    assert found["lease_s"] == ("15.0", "default")
    assert found["state_dir"] == (str(tmp_path / "state"), "mtl.toml")
