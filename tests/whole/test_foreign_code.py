"""No code of the user's folders runs, whatever its files are called."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

HOSTILE = (
    *("worker", "jobs", "mtl_core", "celery", "celeryconfig", "kombu", "redis", "json", "numpy"),
    *("torch", "transformers", "tokenizers", "openvino", "nncf", "pyarrow", "sitecustomize"),
    *("usercustomize", "settings", "signal", "tempfile", "random"),
)


def plant(folder: Path, marker: Path) -> None:
    """Modules that say so when they are imported, under names that our programs import."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in HOSTILE:
        line = f"open({str(marker)!r}, 'a').write({name!r} + ' ' + __file__ + chr(10))\n"
        (folder / f"{name}.py").write_text(line)


@pytest.mark.slow
def test_no_module_of_the_working_folder_or_the_inputs_folder_runs(
    tmp_path: Path, pace: float
) -> None:
    here, there, marker = tmp_path / "here", tmp_path / "there", tmp_path / "ran"
    plant(here, marker)
    plant(there, marker)
    source = there / "in.csv"
    source.write_text("text\n" + "a fine film\nshares fell\n" * 20)
    environment = {**os.environ, "MTL_ENGINE_DIR": str(tmp_path / "engines")}
    environment["DJANGO_SETTINGS_MODULE"] = "settings"
    mtl = Path(sys.executable).with_name("mtl")
    # int8, and engines of its own: the exporting and the quantising process run, too.
    done = subprocess.run(
        [mtl, "label", source, "-o", "out", "--precision", "int8"],
        cwd=here,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120 * pace,
    )
    assert not marker.exists(), marker.read_text()
    assert done.returncode == 0, done.stderr
    assert (here / "out" / "_SUCCESS").exists()


@pytest.mark.slow
def test_a_worker_started_in_a_folder_of_hostile_modules_runs_none_of_them(
    tmp_path: Path, redis_url: str, pace: float
) -> None:
    here, marker = tmp_path / "here", tmp_path / "ran"
    plant(here, marker)
    environment = {**os.environ, "MTL_REDIS_URL": redis_url}
    mtl = Path(sys.executable).with_name("mtl")
    with subprocess.Popen(
        [mtl, "worker"], cwd=here, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as worker:
        try:
            check = [mtl, "worker", "--check"]
            for _ in range(round(30 * pace)):
                if subprocess.run(check, cwd=here, env=environment, capture_output=True).returncode:
                    continue
                break
            else:
                pytest.fail("the worker did not answer")
        finally:
            worker.terminate()
            worker.wait(60 * pace)
    assert not marker.exists(), marker.read_text()
