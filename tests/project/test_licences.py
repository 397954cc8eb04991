"""The list of licences is that of the dependencies as they are."""

import runpy
import sys

import pytest
from support import REPOSITORY

DOCS = REPOSITORY / "docs"


@pytest.mark.skipif(sys.platform != "linux", reason="the page lists what is installed on Linux")
def test_the_page_of_licences_is_up_to_date() -> None:
    page = runpy.run_path(str(DOCS / "licences.py"))["page"]()
    assert (DOCS / "licences.md").read_text(encoding="utf-8") == page, (
        "run: python docs/licences.py"
    )
