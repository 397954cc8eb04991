"""The benchmarks can be run: each says how."""

import json
import subprocess
import sys

import pytest
from support import REPOSITORY, pace

BENCHMARKS = REPOSITORY / "benchmarks"
SCRIPTS = [path.name for path in sorted(BENCHMARKS.glob("*.py")) if "argparse" in path.read_text()]

# All in one process, because each imports torch.
ASK_ALL = """
import contextlib, io, json, runpy, sys, traceback
folder, *names = sys.argv[1:]
sys.path.insert(0, folder)
for name in names:
    sys.argv = [name, "--help"]
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        try:
            runpy.run_path(f"{folder}/{name}", run_name="__main__")
        except SystemExit as end:
            code = end.code
        except BaseException:
            code = traceback.format_exc()
    print(json.dumps([name, code, said.getvalue()]), flush=True)
"""


@pytest.fixture(scope="module")
def answers() -> dict[str, tuple[object, str]]:
    """Of each script how it ended when it was asked for help, and what it said."""
    command = [sys.executable, "-c", ASK_ALL, str(BENCHMARKS), *SCRIPTS]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240 * pace())
    found = [json.loads(line) for line in done.stdout.splitlines()]
    return {name: (code, said) for name, code, said in found}


@pytest.mark.slow
@pytest.mark.parametrize("name", SCRIPTS)
def test_a_benchmark_starts_and_explains_itself(
    name: str, answers: dict[str, tuple[object, str]]
) -> None:
    code, said = answers[name]
    assert code == 0, code
    assert f"usage: {name}" in said
