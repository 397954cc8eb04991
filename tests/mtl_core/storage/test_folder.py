"""A folder as a place, while others work in it."""

import shutil
import threading
from pathlib import Path

from mtl_core.storage.folder import Folder


def test_a_folder_that_another_process_removes_meanwhile_is_one_without_files(
    tmp_path: Path,
) -> None:
    def come_and_go() -> None:
        for _ in range(1000):
            (tmp_path / "out" / "_work").mkdir(parents=True)
            (tmp_path / "out" / "_work" / "shard-00000.parquet").touch()
            shutil.rmtree(tmp_path / "out")

    thread = threading.Thread(target=come_and_go)
    output, seen = Folder(tmp_path / "out"), set[str]()
    thread.start()
    while thread.is_alive():
        seen.update(output.names("_work"), output.folders())
        output.is_empty()  # either may be true in this moment, but it raises nothing
    assert seen == {"_work", "_work/shard-00000.parquet"}


def test_a_folder_is_empty_where_nothing_lies_in_it_and_where_it_is_not_there(
    tmp_path: Path,
) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    assert Folder(tmp_path / "folder").is_empty()
    assert Folder(tmp_path / "missing").is_empty()
    assert Folder(tmp_path / "file" / "below").is_empty()
    assert not Folder(tmp_path / "file").is_empty()
    assert not Folder(tmp_path).is_empty()
