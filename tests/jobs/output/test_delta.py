"""Collecting an output into a Delta table: one commit a generation, each once."""

import datetime as dt
import json
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from made_jobs import MadeJobs
from s3_server import S3Server
from specs import manifest_for

from jobs.input.delta import delta_files
from jobs.label.request import LabelJob
from jobs.output import delta
from jobs.output.delta import IntoTable, collect_delta
from jobs.output.layout import MANIFEST, SUCCESS
from mtl_core.errors import InputError, OutputError
from mtl_core.storage.address import place_of
from mtl_core.storage.folder import Folder
from mtl_core.storage.parquet import put_table

deltalake = pytest.importorskip("deltalake")


@pytest.fixture
def jobs(redis_url: str, tmp_path: Path) -> Iterator[MadeJobs]:
    made = MadeJobs(redis_url, tmp_path)
    yield made
    made.close()


def week(folder: Path, number: int) -> Path:
    texts = [f"sentence {10 * number + row}" for row in range(10)]
    pd.DataFrame({"text": texts}).to_csv(folder / f"w{number}.csv", index=False)
    return folder / f"w{number}.csv"


def row_ids(table: Path) -> list[int]:
    return sorted(deltalake.DeltaTable(str(table)).to_pyarrow_table()["row_id"].to_pylist())


def written(rows: int, *generations: int, there: tuple[int, ...] = ()) -> IntoTable:
    return IntoTable(rows, generations, there, {})


def test_each_generation_is_one_commit_and_none_comes_twice(jobs: MadeJobs, tmp_path: Path) -> None:
    out, table = Folder(tmp_path / "out"), tmp_path / "table"
    for number in range(2):
        jobs.append(week(tmp_path, number))
    assert collect_delta(out, Folder(table)) == written(20, 1, 2)
    assert collect_delta(out, Folder(table)) == written(0, there=(1, 2))
    jobs.append(week(tmp_path, 2))
    assert collect_delta(out, Folder(table)) == written(10, 3, there=(1, 2))
    assert row_ids(table) == list(range(30))
    history = deltalake.DeltaTable(str(table)).history()
    assert [commit["mtl.generation"] for commit in history] == ["3", "2", "1"]


def test_polars_duckdb_and_mtl_itself_read_the_table(jobs: MadeJobs, tmp_path: Path) -> None:
    table = tmp_path / "table"
    for number in range(2):
        jobs.append(week(tmp_path, number))
    collect_delta(Folder(tmp_path / "out"), Folder(table))
    frame = pl.read_delta(str(table))
    assert frame.schema["embedding"] == pl.List(pl.Float32)
    assert frame.schema["topic"] == pl.String
    labelled = pd.read_parquet(tmp_path / "out").sort_values("row_id")
    assert frame.sort("row_id")["text"].to_list() == labelled["text"].tolist()
    assert frame.sort("row_id")["topic"].to_list() == labelled["topic"].tolist()
    with duckdb.connect() as connection:
        connection.register("t", deltalake.DeltaTable(str(table)).to_pyarrow_dataset())
        counted = connection.sql("SELECT count(*), max(row_id), max(len(embedding)) FROM t")
        assert counted.fetchall() == [(20, 19, 256)]
    assert len(delta_files(table)) == 2  # as `mtl label table/` finds them


def test_killed_between_two_generations_the_next_command_goes_on(
    jobs: MadeJobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(2):
        jobs.append(week(tmp_path, number))
    out, table = Folder(tmp_path / "out"), tmp_path / "table"
    commit, before = delta._Table.commit, "deltalake.write_deltalake"

    def dies(*arguments: Any, **named: Any) -> None:
        raise KeyboardInterrupt

    def first_only(self: Any, generation: Any) -> Any:
        if generation.number > 1:
            monkeypatch.setattr(before, dies)
        return commit(self, generation)

    with monkeypatch.context() as patched:
        patched.setattr(delta._Table, "commit", first_only)
        with pytest.raises(KeyboardInterrupt):
            collect_delta(out, Folder(table))
    monkeypatch.undo()
    assert row_ids(table) == list(range(10))
    assert collect_delta(out, Folder(table)) == written(10, 2, there=(1,))
    assert row_ids(table) == list(range(20))


@pytest.mark.parametrize("first", [True, False])
def test_of_two_commands_at_once_one_is_told(
    first: bool, jobs: MadeJobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, table = Folder(tmp_path / "out"), tmp_path / "table"
    jobs.append(week(tmp_path, 0))
    if not first:
        collect_delta(out, Folder(table))
        jobs.append(week(tmp_path, 1))
    before, parts, raced = row_ids(table) if not first else [], delta.checked_parts, list[bool]()

    def other_first(*arguments: Any) -> Any:
        if not raced:
            raced.append(True)
            collect_delta(out, Folder(table))
        return parts(*arguments)

    monkeypatch.setattr(delta, "checked_parts", other_first)
    with pytest.raises(OutputError, match="table was written by another command at the same time"):
        collect_delta(out, Folder(table))
    assert row_ids(table) == list(range(len(before) + 10))


def test_a_place_that_holds_something_else_is_refused_and_left_alone(
    jobs: MadeJobs, tmp_path: Path
) -> None:
    out, table = Folder(tmp_path / "out"), tmp_path / "table"
    jobs.append(week(tmp_path, 0))
    deltalake.write_deltalake(str(table), pa.table({"row_id": [1]}))
    with pytest.raises(OutputError, match="table is a Delta table, but none that was written from"):
        collect_delta(out, Folder(table))
    assert row_ids(table) == [1]
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    with pytest.raises(OutputError, match="full holds other files"):
        collect_delta(out, Folder(tmp_path / "full"))
    with pytest.raises(OutputError, match=r"lies in .*out, a job's output"):
        collect_delta(out, out.below("table"))
    with pytest.raises(OutputError, match=r"w0\.csv is a file"):
        collect_delta(out, Folder(tmp_path / "w0.csv"))
    # another output's table
    jobs.label(week(tmp_path, 1), output="other")
    collect_delta(Folder(tmp_path / "other"), Folder(tmp_path / "its"))
    with pytest.raises(OutputError, match=r"its is a Delta table, but none"):
        collect_delta(out, Folder(tmp_path / "its"))


def test_a_part_that_has_changed_stops_the_commit_in_one_line(
    jobs: MadeJobs, tmp_path: Path
) -> None:
    out, table = tmp_path / "out", tmp_path / "table"
    jobs.append(week(tmp_path, 0))
    last = sorted(out.glob("part-*"))[-1]
    last.write_bytes(last.read_bytes() + b"x")
    with pytest.raises(InputError, match="has changed since its job wrote it") as told:
        collect_delta(Folder(out), Folder(table))
    assert "\n" not in str(told.value)
    last.write_bytes(last.read_bytes()[:-1])
    assert collect_delta(Folder(out), Folder(table)).rows == 10
    assert row_ids(table) == list(range(10))


def test_a_generation_whose_rows_were_tried_again_since_is_told(
    jobs: MadeJobs, tmp_path: Path
) -> None:
    out, table = Folder(tmp_path / "out"), tmp_path / "table"
    jobs.append(week(tmp_path, 0))
    jobs.poison = {"sentence 13"}
    job = jobs.append(week(tmp_path, 1))
    assert isinstance(job, LabelJob)
    assert collect_delta(out, Folder(table)) == written(19, 1, 2)
    jobs.poison = set()
    jobs.retry(job)
    with pytest.raises(OutputError, match="table holds another generation 2 than"):
        collect_delta(out, Folder(table))


def test_values_stay_what_they_are_in_types_that_delta_has(tmp_path: Path) -> None:
    now = dt.datetime(2026, 5, 4, 3, 2, 1, 7)
    table = pa.table(
        {
            "row_id": pa.array([0, 1]),
            "text": ["a", "b"],
            "topic": pa.array(["x", None]).cast(pa.dictionary(pa.int8(), pa.string())),
            "half": pa.array([[0.5, 1], [2, 3]], pa.list_(pa.float16(), 2)),
            "bits": pa.array([[0, 255], [128, 1]], pa.list_(pa.uint8(), 2)),
            "u64": pa.array([2**64 - 1, None], pa.uint64()),
            "at": pa.array([now, None], pa.timestamp("ns")),
            "uuid": pa.array([b"0" * 16, None], pa.uuid()),
            "time": pa.array([1, 2], pa.time64("us")),
            "top": pa.array([[{"l": "a", "n": 200}], []], pa.list_(pa.struct(
                [pa.field("l", pa.string()), pa.field("n", pa.uint8())]))),
        }
    )  # fmt: skip
    write_output(tmp_path / "out", table)
    done = collect_delta(Folder(tmp_path / "out"), Folder(tmp_path / "table"))
    assert done.left_out == {"time": "time64[us]"}
    frame = pl.read_delta(str(tmp_path / "table")).to_dict(as_series=False)
    assert frame == {
        "row_id": [0, 1],
        "text": ["a", "b"],
        "topic": ["x", None],
        "half": [[0.5, 1], [2, 3]],
        "bits": [[0, 255], [128, 1]],
        "u64": [Decimal(2**64 - 1), None],
        "at": [now, None],
        "uuid": ["30303030-3030-3030-3030-303030303030", None],
        "top": [[{"l": "a", "n": 200}], []],
    }
    exact = pa.table({"row_id": pa.array([0]), "at": pa.array([1], pa.timestamp("ns"))})
    write_output(tmp_path / "exact", exact)
    with pytest.raises(InputError, match=r"column 'at' is .*would lose data"):
        collect_delta(Folder(tmp_path / "exact"), Folder(tmp_path / "lost"))


def write_output(folder: Path, table: pa.Table) -> None:
    made = put_table(Folder(folder), "part-00000-a1.parquet", table)
    entry = {"part": "part-00000-a1.parquet", "sha256": made.sha256, "rows": len(table)}
    (folder / MANIFEST).write_text(json.dumps(manifest_for([entry], {"topic": ["x"]})))
    (folder / SUCCESS).touch()


def test_a_table_in_a_store_is_written_once_too(
    jobs: MadeJobs, tmp_path: Path, s3: S3Server
) -> None:
    jobs.append(week(tmp_path, 0))
    table = place_of(f"{s3.address}/table")
    assert collect_delta(Folder(tmp_path / "out"), table) == written(10, 1)
    assert collect_delta(Folder(tmp_path / "out"), table) == written(0, there=(1,))
