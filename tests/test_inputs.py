"""Reading what users bring: every format, and every way a row or file can be wrong."""

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.inputs import Source, fingerprint, list_files, open_source, read_source
from jobs.readers import BadRow
from mtl_core.errors import InputError

TAKEN = {"row_id", "topic", "topic_score", "embedding"}


def opened(*paths: Path, text_column: str | None = None) -> Source:
    return open_source([fingerprint(path) for path in paths], text_column, TAKEN)


def rows_of(source: Source) -> tuple[list[dict[str, Any]], list[BadRow]]:
    good: list[dict[str, Any]] = []
    bad: list[BadRow] = []
    for numbered in read_source(source, chunk_rows=3):
        for row_id, row in zip(numbered.row_ids, numbered.chunk.table.to_pylist(), strict=True):
            good.append({"row_id": int(row_id), **row})
        bad += numbered.chunk.bad
    return good, bad


def written(path: Path, data: bytes | str) -> Path:
    raw = data.encode() if isinstance(data, str) else data
    path.write_bytes(gzip.compress(raw) if path.suffix == ".gz" else raw)
    return path


CONTENT = {
    "a.txt": "first\nsecond\n",
    "a.csv": 'text,n\nfirst,007\n"second, ""quoted""\nover two lines",8\n',
    "a.tsv": "text\tn\nfirst\t007\nsecond\t8\n",
    "a.jsonl": '{"text": "first", "n": 7}\n{"text": "second", "n": 8}\n',
}


@pytest.mark.parametrize("name", [*CONTENT, *(f"{name}.gz" for name in CONTENT)])
def test_every_text_format_is_read_also_compressed(name: str, tmp_path: Path) -> None:
    source = opened(written(tmp_path / name, CONTENT[name.removesuffix(".gz")]))
    good, bad = rows_of(source)
    assert [row["row_id"] for row in good] == [0, 1]
    assert good[0]["text"] == "first"
    assert good[1]["text"].startswith("second")
    assert not bad


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_parquet_is_read_with_its_types(suffix: str, tmp_path: Path) -> None:
    table = pa.table(
        {"text": ["first", "second"], "tags": [["x"], []], "n": pa.array([7, None], "int16")}
    )
    pq.write_table(table, tmp_path / "a.parquet")
    path = tmp_path / f"a.parquet{suffix}"
    written(path, (tmp_path / "a.parquet").read_bytes())
    source = opened(path)
    good, _ = rows_of(source)
    assert good[0] == {"row_id": 0, "text": "first", "tags": ["x"], "n": 7}
    assert next(f.type for f in source.fields if f.name == "n") == pa.int16()


def test_csv_columns_stay_as_they_are_written(tmp_path: Path) -> None:
    good, _ = rows_of(opened(written(tmp_path / "a.csv", CONTENT["a.csv"])))
    assert good[0]["n"] == "007"
    assert good[1]["text"] == 'second, "quoted"\nover two lines'


def test_jsonl_columns_get_a_type_that_holds_all_their_values(tmp_path: Path) -> None:
    records = [
        {"text": "a", "whole": 1, "real": 1, "mixed": 1, "nested": {"k": [1]}, "flag": True},
        {"text": "b", "whole": 2, "real": 2.5, "mixed": "x", "late": "y"},
    ]
    path = written(tmp_path / "a.jsonl", "\n".join(map(json.dumps, records)))
    source = opened(path)
    types = {field.name: str(field.type) for field in source.fields}
    assert types == {
        "text": "string",
        "whole": "int64",
        "real": "double",
        "mixed": "string",
        "nested": "string",
        "flag": "bool",
        "late": "string",
    }
    good, _ = rows_of(source)
    assert good[0]["nested"] == '{"k": [1]}'
    assert good[0]["late"] is None
    assert good[1]["mixed"] == "x"


def test_a_byte_order_mark_is_no_part_of_the_data(tmp_path: Path) -> None:
    for name in CONTENT:
        source = opened(written(tmp_path / name, b"\xef\xbb\xbf" + CONTENT[name].encode()))
        assert rows_of(source)[0][0]["text"] == "first"


# --- bad rows: set aside with row, line and reason


@pytest.mark.parametrize(
    ("name", "content", "row", "line", "reason"),
    [
        ("a.txt", b"good\n\ngood\n", 2, 2, "the text is blank"),
        ("a.txt", b"good\n\xff\xfe\ngood\n", 2, 2, "not UTF-8 at byte 1"),
        ("a.csv", b"text,n\ngood,1\n  ,2\ngood,3\n", 2, 3, "the text is blank"),
        ("a.csv", b"text,n\ngood,1\nfew\ngood,3\n", 2, 3, "1 fields, the header has 2"),
        ("a.csv", b"text,n\ngood,1\na,b,c\ngood,3\n", 2, 3, "3 fields, the header has 2"),
        ("a.csv", b"text,n\ngood,1\ncaf\xe9,2\ngood,3\n", 2, 3, "not UTF-8"),
        ("a.tsv", b"text\tn\ngood\t1\nfew\ngood\t3\n", 2, 3, "1 fields, the header has 2"),
        ("a.jsonl", b'{"text":"good"}\n{"text": \n{"text":"good"}\n', 2, 2, "broken JSON"),
        ("a.jsonl", b'{"text":"good"}\n["x"]\n{"text":"good"}\n', 2, 2, "not a JSON object"),
        ("a.jsonl", b'{"text":"good"}\n{"text":null}\n{"text":"good"}\n', 2, 2, "is null"),
        ("a.jsonl", b'{"text":"good"}\n{"other":1}\n{"text":"good"}\n', 2, 2, "is null"),
        ("a.jsonl", b'{"text":"good"}\n{"text":"\\ud800"}\n{"text":"good"}\n', 2, 2, "surrogate"),
        ("a.jsonl", b'{"text":"good"}\n{"text":"\xff"}\n{"text":"good"}\n', 2, 2, "not UTF-8"),
    ],
)
def test_a_bad_row_is_set_aside_and_its_neighbours_are_read(
    name: str, content: bytes, row: int, line: int, reason: str, tmp_path: Path
) -> None:
    good, bad = rows_of(opened(written(tmp_path / name, content)))
    assert [r["row_id"] for r in good] == [0, 2]
    assert [(b.row, b.line) for b in bad] == [(row, line)]
    assert reason in bad[0].reason


def test_null_and_blank_texts_in_parquet_are_set_aside(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": ["good", None, " ", "good"]}), tmp_path / "a.parquet")
    good, bad = rows_of(opened(tmp_path / "a.parquet"))
    assert [r["row_id"] for r in good] == [0, 3]
    assert [(b.row, b.line, b.reason) for b in bad] == [
        (2, None, "the text is null"),
        (3, None, "the text is blank"),
    ]


def test_a_quote_that_never_closes_does_not_lose_the_rows_before_it(tmp_path: Path) -> None:
    good, bad = rows_of(opened(written(tmp_path / "a.csv", 'text,n\ngood,1\n"open,2\nmore,3\n')))
    assert [r["text"] for r in good] == ["good"]
    assert len(bad) == 1


def test_row_ids_run_through_all_files_and_bad_rows(tmp_path: Path) -> None:
    one = written(tmp_path / "1.txt", "a\n\nb\n")
    two = written(tmp_path / "2.csv", "text,n\nc,1\nd,2\n")
    source = opened(one, two)
    good, bad = rows_of(source)
    assert [(r["row_id"], r["text"]) for r in good] == [(0, "a"), (2, "b"), (3, "c"), (4, "d")]
    assert len(bad) == 1
    assert [field.name for field in source.fields] == ["text", "n"]


# --- files and columns that cannot be used: one line each


def test_a_missing_file_gets_a_suggestion(tmp_path: Path) -> None:
    written(tmp_path / "reviews.csv", "text\nx\n")
    with pytest.raises(InputError, match=r"no such file; did you mean '.*reviews\.csv'"):
        list_files([str(tmp_path / "review.csv")])


def test_a_folder_is_expanded_and_an_empty_one_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="the folder holds no txt/csv"):
        list_files([str(tmp_path)])
    written(tmp_path / "b.txt", "x")
    written(tmp_path / "a.jsonl", "x")
    written(tmp_path / "notes.md", "x")
    assert [path.name for path in list_files([str(tmp_path)])] == ["a.jsonl", "b.txt"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", b"", "the file is empty"),
        ("a.docx", b"x", "ends in no known format"),
        ("a.csv", "text\nx\n".encode("utf-16"), "UTF-16"),
    ],
)
def test_an_unusable_file_is_refused(
    name: str, content: bytes, message: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=message):
        fingerprint(written(tmp_path / name, content))


@pytest.mark.parametrize(
    ("name", "content", "column", "message"),
    [
        ("a.csv", "title,body\nx,y\n", None, "several columns could hold the text"),
        ("a.csv", "title,body\nx,y\n", "boddy", "no column 'boddy'; did you mean 'body'"),
        ("a.csv", "text,text\nx,y\n", None, "named twice"),
        ("a.jsonl", "[1]\n", None, "no JSON object"),
        ("a.jsonl", '{"text": 1}\n', "text", "is int64, not text"),
        ("a.parquet", "not parquet", None, "not a readable Parquet file"),
        ("a.csv.gz", "", None, "no header line"),
    ],
)
def test_unusable_columns_are_refused(
    name: str, content: str, column: str | None, message: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=message):
        opened(written(tmp_path / name, content), text_column=column)


def test_parquet_without_text_is_refused_with_its_columns(tmp_path: Path) -> None:
    pq.write_table(pa.table({"n": [1], "m": [2.0]}), tmp_path / "a.parquet")
    with pytest.raises(InputError, match="no text column among: n, m"):
        opened(tmp_path / "a.parquet")


def test_a_gzip_file_cut_short_is_an_error_not_a_short_result(tmp_path: Path) -> None:
    whole = gzip.compress("".join(f"sentence number {n}\n" for n in range(5000)).encode())
    path = tmp_path / "a.txt.gz"
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match="damaged after row"):
        rows_of(opened(path))


def test_a_users_column_named_like_an_output_column_is_renamed(tmp_path: Path) -> None:
    source = opened(written(tmp_path / "a.csv", "text,topic\nx,y\n"), text_column="text")
    assert [field.name for field in source.fields] == ["text", "input_topic"]


def test_files_that_disagree_on_a_columns_type_are_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": ["a"], "n": [1]}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"text": ["a"], "n": [1.5]}), tmp_path / "b.parquet")
    with pytest.raises(InputError, match=r"column 'n' is double, but int64 in"):
        opened(tmp_path / "a.parquet", tmp_path / "b.parquet")
