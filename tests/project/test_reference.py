"""What the docs take from the code is what the code says."""

import json
import runpy

import pytest
from support import REPOSITORY

from mtl_core.errors import MtlError

DOCS = REPOSITORY / "docs"
PAGES = runpy.run_path(str(DOCS / "generate.py"))["PAGES"]


@pytest.mark.parametrize("name", PAGES)
def test_a_page_made_from_the_code_is_up_to_date(name: str) -> None:
    message = "run: python docs/generate.py"
    assert (DOCS / name).read_text(encoding="utf-8") == PAGES[name](), message


def test_every_error_has_a_code_of_its_own_a_cause_and_a_remedy() -> None:
    def below(error: type[MtlError]) -> list[type[MtlError]]:
        return [each for sub in error.__subclasses__() for each in (sub, *below(sub))]

    errors = below(MtlError)
    assert len({error.code for error in errors}) == len(errors) >= 11
    assert all("code" in vars(error) and "remedy" in vars(error) for error in errors)
    assert all(error.__doc__ for error in errors)


def test_the_pictures_are_of_what_is_there_now() -> None:
    made = runpy.run_path(str(DOCS / "pictures.py"))
    kept = json.loads((DOCS / "pictures/inputs.json").read_text(encoding="utf-8"))
    assert kept == made["digests"](), "run: python docs/pictures.py"
    sizes = [path.stat().st_size for path in (DOCS / "pictures").iterdir()]
    assert max(sizes) < made["MOST_BYTES"]
