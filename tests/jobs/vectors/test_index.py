"""The index beside the parts: what it finds, when it is used, what other commands make of it."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from jobs.cli.group import main
from jobs.output.indexed import RECORD
from jobs.output.layout import read_manifest
from jobs.output.verify import verify
from jobs.vectors import index as making
from jobs.vectors.index import build_index
from jobs.vectors.search import open_output, search
from mtl_core.config import Embedding
from mtl_core.storage.folder import Folder

from .conftest import ROWS, Made, vectors, write_output

pytest.importorskip("faiss", reason="an index needs faiss (pip install 'mtl-batch[search]')")


def mtl(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [*map(str, arguments)])


def indexed(out: Path) -> Path:
    build_index(Folder(out), read_manifest(Folder(out)))
    return out


def found_by(out: Path, exact: bool = False, where: str | None = None) -> list[set[int]]:
    with open_output(str(out), exact=exact) as opened:
        assert (opened.index is None) == exact
        hits = search([opened], vectors()[:50], 10, where)
    return [{hit.values["row_id"] for hit in some} for some in hits]


@pytest.mark.parametrize("form", ["float32", "float16", "int8", "binary"])
def test_the_index_finds_nearly_all_that_a_scan_finds_in_every_form(
    made: Made, form: Embedding, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(making, "FILE_ROWS", ROWS // 2)  # two files
    monkeypatch.setattr(making, "PROBED", 0.5)
    out = indexed(made("out", form))
    assert len(list((out / "_index").glob("*.faiss"))) == 2
    pairs = zip(found_by(out), found_by(out, exact=True), strict=True)
    assert np.mean([len(a & b) / 10 for a, b in pairs]) >= (0.9 if form == "binary" else 0.95)


def test_a_condition_holds_with_an_index_and_nothing_is_missed_where_few_rows_meet_it(
    made: Made,
) -> None:
    out = indexed(made("out", "float32"))
    where = "topic = 'Sports' and day = 1"
    by_index, by_scan = found_by(out, where=where), found_by(out, exact=True, where=where)
    assert np.mean([len(a & b) / 10 for a, b in zip(by_index, by_scan, strict=True)]) >= 0.95
    assert all(row % 3 == 0 and 500 <= row < 1000 for rows in by_index for row in rows)
    assert all(len(rows) == 10 for rows in by_index)


def test_the_index_is_made_once_and_an_output_with_one_verifies(made: Made) -> None:
    out = made("out", "float32")
    first, again = mtl("index", out), mtl("index", out, "--json")
    assert first.exit_code == 0, first.output
    assert "_index: 1,500 rows, " in first.output
    assert json.loads(again.stdout)["new"] is False
    assert verify(Folder(out)) == ({"total": ROWS, "labelled": ROWS, "errors": 0, "parts": 3}, [])
    shown = mtl("collect", out, "-o", out.parent / "all.csv")
    assert shown.exit_code == 0, shown.output


def test_after_an_append_an_index_is_not_used_and_not_called_damaged(made: Made) -> None:
    out = made("out", "float32")
    whole = json.loads((out / "_manifest.json").read_text())
    first = {**whole, "parts": whole["parts"][:2]}
    (out / "_manifest.json").write_text(json.dumps(first))
    indexed(out)
    (out / "_manifest.json").write_text(json.dumps(whole))
    with open_output(str(out)) as opened:
        assert opened.index is None
        assert opened.note.endswith(f"rows were appended since; `mtl index {out}` makes it anew")
    assert found_by(out, exact=True)[0] == found_rows(out)
    assert verify(Folder(out))[1] == []
    with open_output(str(indexed(out)), generation=1) as opened:
        assert (opened.index, opened.note) == (None, "")


def found_rows(out: Path) -> set[int]:
    with open_output(str(out)) as opened:
        return {hit.values["row_id"] for hit in search([opened], vectors()[:1], 10)[0]}


def test_an_index_is_not_used_once_a_part_has_changed_and_that_is_said(made: Made) -> None:
    out = indexed(made("out", "float32"))
    other = write_output(out.parent / "other", "float32", vectors(seed=4))
    for path in other.iterdir():
        shutil.copy(path, out / path.name)
    said = mtl("search", out, "--like", "7", "-k", "1")
    assert said.exit_code == 0, said.output
    assert "its index is not used: it was made of other parts; `mtl index" in said.stderr
    assert any("names other parts than the manifest" in line for line in verify(Folder(out))[1])
    assert json.loads(mtl("index", out, "--json").stdout)["new"] is True
    with open_output(str(out)) as opened:
        assert (opened.index is not None, opened.note) == (True, "")
    assert len(list((out / "_index").iterdir())) == 2  # the earlier index's file is gone


def test_a_part_of_the_same_size_and_another_content_is_noticed(made: Made) -> None:
    out = indexed(made("out", "float32"))
    part = out / "part-00001-a1.parquet"
    content = bytearray(part.read_bytes())
    content[len(content) // 2] ^= 1
    part.write_bytes(content)
    with open_output(str(out), hold=False) as opened:
        assert opened.index is None
        assert "its index is not used: part-00001-a1.parquet has changed since" in opened.note


def test_a_copy_whose_files_have_other_dates_keeps_its_index(made: Made) -> None:
    out = indexed(made("out", "float32"))
    for path in out.glob("*.parquet"):
        os.utime(path, (1, 1))
    with open_output(str(out)) as opened:
        assert opened.index is not None


@pytest.mark.parametrize("harm", ["cut", "gone", "no record"])
def test_a_damaged_index_is_named_by_verify_and_made_anew(made: Made, harm: str) -> None:
    out = indexed(made("out", "float32"))
    file = next((out / "_index").glob("*.faiss"))
    if harm == "cut":
        file.write_bytes(file.read_bytes()[:-9])
    elif harm == "gone":
        file.unlink()
    else:
        (out / RECORD).write_text("{")
    problems = verify(Folder(out))[1]
    assert len(problems) == 1
    assert "make it anew by `mtl index`" in problems[0]
    with open_output(str(out)) as opened:
        assert opened.index is None
    assert mtl("index", out).exit_code == 0
    assert verify(Folder(out))[1] == []


def test_files_that_are_not_the_indexs_stay(made: Made) -> None:
    out = indexed(made("out", "float32"))
    (out / "_index" / "mine.txt").write_text("mine")
    manifest = json.loads((out / "_manifest.json").read_text())
    record = json.loads((out / RECORD).read_text())
    record["files"].append({"file": "part-00000-a1.parquet", "rows": 1, "bytes": 1, "sha256": "0"})
    record["parts"][0]["sha256"] = "1"
    (out / RECORD).write_text(json.dumps(record))
    assert mtl("index", out).exit_code == 0
    assert (out / "_index" / "mine.txt").read_text() == "mine"
    assert (out / manifest["parts"][0]["part"]).is_file()


def test_an_output_without_embeddings_or_rows_gets_none(made: Made, tmp_path: Path) -> None:
    none = mtl("index", write_output(tmp_path / "none", "none", vectors()))
    assert (none.exit_code, "holds no embeddings" in none.output) == (2, True)


def test_without_faiss_the_index_is_not_used_and_what_to_install_is_said(
    made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = indexed(made("out", "float32"))
    monkeypatch.setitem(__import__("sys").modules, "faiss", None)
    said = mtl("search", out, "--like", "7", "-k", "1")
    assert said.exit_code == 0
    assert "its index is not used: an index needs faiss; install it by `pip install" in said.stderr
    refused = mtl("index", made("other", "float32"))
    assert (refused.exit_code, "an index needs faiss" in refused.output) == (2, True)
