"""Dependencies point one way, and the light commands stay light."""

import ast
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support import Mtl

REPOSITORY = Path(__file__).parent.parent
FORBIDDEN = {
    "mtl_core": {"jobs", "worker", "celery", "redis", "click"},
    "jobs": {"worker"},
    "worker": set(),
}


def imported_roots(file: Path) -> set[str]:
    roots = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            roots |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            roots.add(node.module.split(".")[0])
    return roots


@pytest.mark.parametrize("package", FORBIDDEN)
def test_dependencies_point_one_way(package: str) -> None:
    for file in (REPOSITORY / package).rglob("*.py"):
        assert not imported_roots(file) & FORBIDDEN[package], file


@pytest.mark.parametrize(
    "module",
    ["jobs.cli.label", "jobs.cli.train", "jobs.cli.status", "jobs.cli.models", "worker.app"],
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
