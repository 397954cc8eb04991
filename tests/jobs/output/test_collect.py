"""Collecting a finished output: one file of any kind, or a folder for each label."""

import json
import math
import os
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from specs import manifest_for
from support import Mtl

from jobs.output.collect import collect, collect_by_label
from jobs.output.layout import MANIFEST, SUCCESS
from mtl_core.errors import InputError, OutputError
from mtl_core.files import file_sha256
from mtl_core.storage.folder import Folder

LABELS = pa.dictionary(pa.int8(), pa.string())


@pytest.fixture
def output(tmp_path: Path) -> Path:
    """Two parts of a finished job."""
    folder = tmp_path / "out"
    folder.mkdir()
    parts = []
    for number, topics in enumerate((["Sports", "Sci/Tech"], ["Sports", None])):
        table = pa.table(
            {
                "row_id": pa.array([2 * number, 2 * number + 1]),
                "text": ["a, b", 'says "c"\nd'],
                "topic": pa.array(topics).cast(LABELS),
                "embedding": pa.array([[0.0, 1.0], [1.0, 0.0]], pa.list_(pa.float32(), 2)),
            }
        )
        path = folder / f"part-0000{number}-a1.parquet"
        pq.write_table(table, path)
        parts.append({"part": path.name, "sha256": file_sha256(path)})
    manifest = manifest_for(parts, {"topic": ["Sports"]})
    (folder / MANIFEST).write_text(json.dumps(manifest))
    (folder / SUCCESS).touch()
    return folder


def test_a_file_is_written_in_the_format_of_its_name(output: Path, tmp_path: Path) -> None:
    assert collect(Folder(output), tmp_path / "a.parquet", overwrite=False) == (4, {})
    assert collect(Folder(output), tmp_path / "a.jsonl", overwrite=False) == (4, {})
    whole = pd.read_parquet(tmp_path / "a.parquet")
    lines = pd.read_json(tmp_path / "a.jsonl", lines=True)
    assert whole["text"].tolist() == lines["text"].tolist()
    assert lines["embedding"][0] == [0.0, 1.0]
    assert lines["topic"].tolist()[:3] == ["Sports", "Sci/Tech", "Sports"]
    assert lines["topic"].isna().tolist() == [False, False, False, True]


def test_csv_leaves_lists_out_and_says_so(output: Path, tmp_path: Path) -> None:
    assert collect(Folder(output), tmp_path / "a.csv", overwrite=False) == (
        4,
        {"embedding": "list"},
    )
    table = pd.read_csv(tmp_path / "a.csv")
    assert table.columns.tolist() == ["row_id", "text", "topic"]
    assert table["text"].tolist() == ["a, b", 'says "c"\nd'] * 2


def test_the_format_asked_for_wins_over_the_name(output: Path, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"a\.txt: its name ends in no known format; name it \.p"):
        collect(Folder(output), tmp_path / "a.txt", overwrite=False)
    collect(Folder(output), tmp_path / "a.txt", "csv", overwrite=False)
    assert len(pd.read_csv(tmp_path / "a.txt")) == 4


def test_rows_are_found_again_by_label(output: Path, tmp_path: Path) -> None:
    target = tmp_path / "by-topic"
    assert collect_by_label(Folder(output), target, "topic", overwrite=False) == 4
    rows = duckdb.sql(
        f"SELECT topic, count(*) FROM read_parquet('{target}/*/*.parquet', "
        "hive_partitioning=true) GROUP BY topic"
    ).fetchall()
    assert sorted(rows, key=str) == [("Sci/Tech", 1), ("Sports", 2), (None, 1)]
    with pytest.raises(OutputError, match="exists; add --overwrite"):
        collect_by_label(Folder(output), target, "topic", overwrite=False)
    assert collect_by_label(Folder(output), target, "topic", overwrite=True) == 4
    with pytest.raises(InputError, match="no task 'topics'; did you mean 'topic'"):
        collect_by_label(Folder(output), tmp_path / "other", "topics", overwrite=False)


def test_a_part_that_changed_is_not_collected(output: Path, tmp_path: Path) -> None:
    pq.write_table(pa.table({"row_id": [9]}), output / "part-00001-a1.parquet")
    with pytest.raises(InputError, match="has changed since its job wrote it"):
        collect(Folder(output), tmp_path / "a.parquet", overwrite=False)
    assert not (tmp_path / "a.parquet").exists()


# --- what is there already


def test_overwriting_a_folder_never_removes_what_collect_did_not_write(
    output: Path, tmp_path: Path
) -> None:
    theirs = tmp_path / "home"
    (theirs / "photos").mkdir(parents=True)
    (theirs / "photos" / "one.jpg").write_bytes(b"x")
    with pytest.raises(OutputError, match=r"home holds no readable _collected\.json"):
        collect_by_label(Folder(output), theirs, "topic", overwrite=True)
    ours = tmp_path / "by-topic"
    collect_by_label(Folder(output), ours, "topic", overwrite=False)
    note = ours / "topic=Sports" / "notes.txt"
    note.write_text("mine")
    with pytest.raises(OutputError, match=r"notes\.txt was not written by `mtl collect`"):
        collect_by_label(Folder(output), ours, "topic", overwrite=True)
    note.unlink()
    (ours / "empty").mkdir()
    with pytest.raises(OutputError, match="empty was not made by `mtl collect`"):
        collect_by_label(Folder(output), ours, "topic", overwrite=True)
    (ours / "empty").rmdir()
    pq.write_table(pa.table({"row_id": [1]}), ours / "topic=Sports" / "part-0.parquet")
    with pytest.raises(OutputError, match="has changed since `mtl collect`"):
        collect_by_label(Folder(output), ours, "topic", overwrite=True)
    assert (theirs / "photos" / "one.jpg").read_bytes() == b"x"
    assert len(pq.read_table(ours / "topic=Sports" / "part-0.parquet", partitioning=None)) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["by-topic", "home", "out"]


def test_overwriting_a_folder_of_collects_own_leaves_only_the_new_rows(
    output: Path, tmp_path: Path
) -> None:
    ours = tmp_path / "by-topic"
    ours.mkdir()  # an empty folder holds nothing that could be lost
    collect_by_label(Folder(output), ours, "topic", overwrite=False)
    before = sorted(str(path) for path in ours.rglob("*"))
    collect_by_label(Folder(output), ours, "topic", overwrite=True)
    assert sorted(str(path) for path in ours.rglob("*")) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["by-topic", "out"]


@pytest.mark.parametrize("target", ["out/labelled.csv", "out/new/by.parquet", "link/a.jsonl"])
def test_a_target_inside_an_output_is_refused(output: Path, tmp_path: Path, target: str) -> None:
    (tmp_path / "link").symlink_to(output)
    with pytest.raises(OutputError, match="a job's output, which readers open as one data set"):
        collect(Folder(output), tmp_path / target, overwrite=True)
    with pytest.raises(OutputError, match="give a place outside it"):
        collect_by_label(Folder(output), tmp_path / target, "topic", overwrite=True)
    with pytest.raises(OutputError, match="give a place outside it"):
        collect_by_label(Folder(output), output, "topic", overwrite=True)


def test_only_a_plain_file_is_overwritten(output: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.csv")
    with pytest.raises(OutputError, match="is a device or a pipe, no file"):
        collect(Folder(output), tmp_path / "pipe.csv", overwrite=True)
    (tmp_path / "a.csv").write_text("mine")
    with pytest.raises(OutputError, match="exists; add --overwrite"):
        collect(Folder(output), tmp_path / "a.csv", overwrite=False)
    (tmp_path / ".a.csv.tmp").write_text("mine, too")
    collect(Folder(output), tmp_path / "a.csv", overwrite=True)
    assert len(pd.read_csv(tmp_path / "a.csv")) == 4
    assert (tmp_path / ".a.csv.tmp").read_text() == "mine, too"


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 8 KiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounting = ["mount", "-t", "tmpfs", "-o", "size=8k", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mounting, check=False).returncode != 0:
        pytest.skip("needs the right to mount")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize("arguments", [
    ("collect", "-o", "small/by", "--by", "topic"),
    ("collect", "-o", "small/a.parquet"),
    ("collect", "-o", "small/a.csv"),
    ("collect", "-o", "small/a.jsonl"),
    ("report", "-o", "small/r.html"),
])  # fmt: skip
def test_a_full_disk_is_one_line_and_leaves_nothing(
    arguments: tuple[str, ...], full_disk: Path, tmp_path: Path, mtl: Mtl
) -> None:
    write_output(tmp_path / "long", [[f"{row} {os.urandom(30).hex()}"] for row in range(2000)])
    command, *options = arguments
    ran = mtl(command, "long", *options)
    assert (ran.code, ran.err.count("\n")) == (2, 1), ran.err
    assert "cannot be written (No space left on device)" in ran.err
    assert list(full_disk.iterdir()) == []


# --- what a format can hold


def write_output(folder: Path, parts: list[list[str]], **columns: pa.Array) -> Path:
    """A finished output: a list of texts a part, all Sports; more columns for the first part."""
    folder.mkdir()
    entries = []
    for number, texts in enumerate(parts):
        table = pa.table(
            {
                "row_id": pa.array(range(len(texts))),
                "text": pa.array(texts, pa.string()),
                **columns,
                "topic": pa.array(["Sports"] * len(texts)).cast(LABELS),
                "topic_score": pa.array([0.5] * len(texts), pa.float32()),
                "truncated": pa.array([False] * len(texts)),
            }
        )
        path = folder / f"part-{number:05d}-a1.parquet"
        pq.write_table(table, path)
        entries.append({"part": path.name, "sha256": file_sha256(path), "rows": len(texts)})
    manifest = manifest_for(entries, {"topic": ["Sports"]})
    (folder / MANIFEST).write_text(json.dumps(manifest))
    (folder / SUCCESS).touch()
    return folder


def test_csv_holds_what_has_a_text_and_names_what_has_none(tmp_path: Path) -> None:
    key = uuid.UUID(int=7)
    write_output(
        tmp_path / "out",
        [["a", "b"]],
        key=pa.array([key.bytes, None], pa.uuid()),
        view=pa.array(["x", None], pa.string_view()),
        code=pa.array([b"\xff", None]).dictionary_encode(),
        raw=pa.array([b"ab", None], pa.binary(2)),
        tags=pa.array([["x"], None]),
        pair=pa.array([{"a": 1}, None]),
        when=pa.array([1, None], pa.timestamp("ns")),
    )
    rows, without = collect(Folder(tmp_path / "out"), tmp_path / "a.csv", overwrite=False)
    assert without == {"code": "bytes", "raw": "bytes", "tags": "list", "pair": "fields"}
    table = pd.read_csv(tmp_path / "a.csv")
    assert (rows, table["key"][0], table["view"][0]) == (2, str(key), "x")
    assert table["when"][0] == "1970-01-01 00:00:00.000000001"


def test_jsonl_is_json_whatever_the_columns_hold(tmp_path: Path) -> None:
    write_output(
        tmp_path / "out",
        [["a", "b"]],
        number=pa.array([math.nan, 1.5]),
        inner=pa.array([[{"x": math.inf}], [{"x": 1.0}]]),
        raw=pa.array([b"\x00\xff", None]),
    )
    collect(Folder(tmp_path / "out"), tmp_path / "a.jsonl", overwrite=False)

    def refuse(word: str) -> None:
        raise AssertionError(word)

    lines = (tmp_path / "a.jsonl").read_text().splitlines()
    first, second = (json.loads(line, parse_constant=refuse) for line in lines)
    assert (first["number"], first["inner"], first["raw"]) == (None, [{"x": None}], "AP8=")
    assert (second["number"], second["inner"], second["raw"]) == (1.5, [{"x": 1.0}], None)


def test_no_row_is_said_and_is_an_empty_file_or_folder(tmp_path: Path, mtl: Mtl) -> None:
    write_output(tmp_path / "out", [[]])
    for target in (("-o", "a.csv"), ("-o", "by", "--by", "topic")):
        ran = mtl("collect", "out", *target)
        assert ran.code == 0, ran.err
        assert "no row was labelled; 0 are in out/errors" in ran.err
    assert (tmp_path / "a.csv").read_text().count("\n") == 1


def test_a_page_replaces_a_page_but_no_other_file(tmp_path: Path, mtl: Mtl) -> None:
    write_output(tmp_path / "out", [["a"]])
    (tmp_path / "mine.html").write_text("<html>mine</html>")
    ran = mtl("report", "out", "-o", "mine.html")
    assert (ran.code, ran.err.count("\n")) == (2, 1)
    assert "exists; add --overwrite to replace it" in ran.err
    assert (tmp_path / "mine.html").read_text() == "<html>mine</html>"
    for _ in range(2):
        assert mtl("report", "out", "-o", "ours.html").code == 0
    assert mtl("report", "out", "-o", "mine.html", "--overwrite").code == 0
    assert "lies in" in mtl("report", "out", "-o", "out/r.html").err


def test_show_prints_texts_as_they_are_and_no_control_characters(tmp_path: Path, mtl: Mtl) -> None:
    texts = ["[deleted] [/url] [b]no[/b]", "red \x1b[31malert\x07", "two\nlines\u202e"]
    write_output(tmp_path / "out", [texts])
    ran = mtl("show", "out")
    assert ran.code == 0, ran.err
    assert "[deleted] [/url] [b]no[/b]" in ran.out
    assert r"red \x1b[31malert\x07" in ran.out
    assert r"two\nlines\u202e" in ran.out
