"""One seeded run of the chaos of ``tests/helpers/chaos.py``."""

from collections.abc import Callable
from pathlib import Path

import pytest
from chaos import chaos, undisturbed
from support import pace

pytestmark = [pytest.mark.slow, pytest.mark.faults]

SEED = 7


def test_chaos_loses_and_doubles_nothing(
    tmp_path: Path, recovered: Callable[[str, float], None]
) -> None:
    expected = undisturbed(tmp_path / "undisturbed")
    seconds = chaos(SEED, tmp_path, expected)
    recovered(f"chaos, seed {SEED}: 400 shards, 8 kills, 1 poison row, 1 Redis restart", seconds)
    assert seconds < 90 * pace()
