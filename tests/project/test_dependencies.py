"""The light commands stay light. (Which way imports point, import-linter checks: `make check`.)"""

import subprocess
import sys
import time

import pytest
from support import Mtl


@pytest.mark.parametrize(
    "module",
    [
        "jobs.cli.label.label",
        "jobs.cli.train.train",
        "jobs.cli.look.status",
        "jobs.cli.train.models",
        "worker.app",
    ],
)
def test_commands_and_the_workers_parent_load_no_torch(module: str) -> None:
    code = (
        f"import sys, {module}; print([m for m in ('torch', 'transformers') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_help_comes_at_once(mtl: Mtl) -> None:
    """In under 0.3 s, or on a slow or busy machine in the time of some bare interpreters."""
    bare, helping = [], []
    for _ in range(3):
        started = time.perf_counter()
        subprocess.run([sys.executable, "-c", "import click"], check=True)
        between = time.perf_counter()
        assert mtl("--help").code == 0
        bare.append(between - started)
        helping.append(time.perf_counter() - between)
    assert min(helping) < max(0.3, 3 * min(bare))
