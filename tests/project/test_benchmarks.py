"""The benchmarks can be run: each says how."""

import subprocess
import sys

import pytest
from support import REPOSITORY, pace

BENCHMARKS = REPOSITORY / "benchmarks"
SCRIPTS = [path.name for path in sorted(BENCHMARKS.glob("*.py")) if "argparse" in path.read_text()]


@pytest.mark.slow
@pytest.mark.parametrize("name", SCRIPTS)
def test_a_benchmark_starts_and_explains_itself(name: str) -> None:
    command = [sys.executable, str(BENCHMARKS / name), "--help"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120 * pace())
    assert done.returncode == 0, done.stderr
    assert f"usage: {name}" in done.stdout
