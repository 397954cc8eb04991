"""Files that appear whole or not at all, whoever else writes beside them."""

from pathlib import Path

import pytest

from mtl_core.files import temporary_beside, write_text
from mtl_core.storage.folder import Folder


def test_two_writers_of_one_name_do_not_meet_in_a_temporary_file(tmp_path: Path) -> None:
    # As in two containers, whose processes have the same numbers.
    place = Folder(tmp_path)
    with place.writing("a") as one:
        with place.writing("a") as two:
            assert one != two
            two.write_text("two")
            one.write_text("one")
        assert place.read_text("a") == "two"
    assert place.read_text("a") == "one"
    assert place.names() == ["a"]


def test_a_temporary_file_is_hidden_and_gone_after_a_failure(tmp_path: Path) -> None:
    name = temporary_beside(tmp_path / "part-0.parquet").name
    assert name.startswith(".part-0.parquet.")
    assert name.endswith(".tmp")
    with pytest.raises(UnicodeEncodeError):
        write_text(tmp_path / "a", "half a pair: \ud800")
    assert list(tmp_path.iterdir()) == []
