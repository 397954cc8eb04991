"""Collecting a finished output: one file of any kind, or a folder for each label."""

import json
from pathlib import Path

import duckdb
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.collect import collect, collect_by_label
from jobs.output import MANIFEST, SUCCESS
from mtl_core.errors import InputError, OutputError
from mtl_core.files import file_sha256
from mtl_core.place import Folder

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
    manifest = {"job": "label-x", "parts": parts, "model": {"tasks": {"topic": ["Sports"]}}}
    (folder / MANIFEST).write_text(json.dumps(manifest))
    (folder / SUCCESS).touch()
    return folder


def test_a_file_is_written_in_the_format_of_its_name(output: Path, tmp_path: Path) -> None:
    assert collect(Folder(output), tmp_path / "a.parquet", overwrite=False) == (4, [])
    assert collect(Folder(output), tmp_path / "a.jsonl", overwrite=False) == (4, [])
    whole = pd.read_parquet(tmp_path / "a.parquet")
    lines = pd.read_json(tmp_path / "a.jsonl", lines=True)
    assert whole["text"].tolist() == lines["text"].tolist()
    assert lines["embedding"][0] == [0.0, 1.0]
    assert lines["topic"].tolist()[:3] == ["Sports", "Sci/Tech", "Sports"]
    assert lines["topic"].isna().tolist() == [False, False, False, True]


def test_csv_leaves_lists_out_and_says_so(output: Path, tmp_path: Path) -> None:
    assert collect(Folder(output), tmp_path / "a.csv", overwrite=False) == (4, ["embedding"])
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
