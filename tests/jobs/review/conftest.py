"""Outputs to check by hand and to compare."""

from pathlib import Path

import pytest
from outputs import made_output


@pytest.fixture(scope="session")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished output; a third of its topics is Sports."""
    return made_output(tmp_path_factory.mktemp("review") / "out")


@pytest.fixture(scope="session")
def later(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same input labelled otherwise: every sixth row is Sports, and not every third."""
    return made_output(tmp_path_factory.mktemp("later") / "out", sports_every=6)
