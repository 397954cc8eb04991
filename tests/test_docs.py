"""What the docs say is what happens."""

import doctest
from pathlib import Path

import pytest

DOCS = Path(__file__).parent.parent / "docs"


@pytest.mark.slow
def test_the_walkthrough_prints_what_it_says() -> None:
    failed, tried = doctest.testfile(
        str(DOCS / "walkthrough.md"), module_relative=False, optionflags=doctest.ELLIPSIS
    )
    assert tried > 20
    assert not failed
