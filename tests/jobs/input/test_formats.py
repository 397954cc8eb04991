"""Reading what users bring: every format, and every way a row or file can be wrong."""

import bz2
import codecs
import gzip
import io
import json
import lzma
import os
import sys
import threading
from collections.abc import Callable, Sequence
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.input.files import AsGiven, assumptions, describe, fingerprint
from jobs.input.folders import Listing, Located, list_files
from jobs.input.ids import check_ids
from jobs.input.locate import _keep, locate
from jobs.input.readers import BadRow
from jobs.input.source import Source, open_source, read_source
from mtl_core.errors import InputError

TAKEN = {"row_id", "topic", "topic_score", "embedding"}


def opened(*paths: Path, text: Sequence[str] = (), limit: int | None = None) -> Source:
    files = [fingerprint(Located(path)) for path in paths]
    return open_source(files, text, TAKEN, limit)


def paths_of(listing: Listing) -> list[Path]:
    return [file.path for file in listing.files]


def rows_of(source: Source) -> tuple[list[dict[str, Any]], list[BadRow]]:
    good: list[dict[str, Any]] = []
    bad: list[BadRow] = []
    for numbered in read_source(source, chunk_rows=3):
        for row_id, row in zip(numbered.row_ids, numbered.chunk.table.to_pylist(), strict=True):
            good.append({"row_id": int(row_id), **row})
        bad += numbered.chunk.bad
    return good, bad


COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": lambda raw: pa.Codec("zstd").compress(raw, asbytes=True),
}


def written(path: Path, data: bytes | str) -> Path:
    raw = data.encode() if isinstance(data, str) else data
    path.write_bytes(COMPRESS.get(path.suffix, bytes)(raw))
    return path


CONTENT = {
    "a.txt": "first\nsecond\n",
    "a.csv": 'text,n\nfirst,007\n"second, ""quoted""\nover two lines",8\n',
    "a.tsv": "text\tn\nfirst\t007\nsecond\t8\n",
    "a.jsonl": '{"text": "first", "n": 7}\n{"text": "second", "n": 8}\n',
}


@pytest.mark.parametrize(
    "name", [*CONTENT, *(f"{name}{ending}" for name in CONTENT for ending in COMPRESS)]
)
def test_every_text_format_is_read_also_compressed(name: str, tmp_path: Path) -> None:
    source = opened(written(tmp_path / name, CONTENT[".".join(name.split(".")[:2])]))
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


@pytest.mark.parametrize("stream", [False, True])
def test_arrow_files_and_streams_are_read(stream: bool, tmp_path: Path) -> None:
    table = pa.table({"text": ["first", "second"], "n": pa.array([7, None], "int16")})
    new = pa.ipc.new_stream if stream else pa.ipc.new_file
    with new(tmp_path / "a.arrow", table.schema) as writer:
        writer.write_table(table)
    good, _ = rows_of(opened(tmp_path / "a.arrow"))
    assert good == [
        {"row_id": 0, "text": "first", "n": 7},
        {"row_id": 1, "text": "second", "n": None},
    ]


# --- how it is written is found, and said


@pytest.mark.parametrize(
    ("content", "encoding", "delimiter", "said"),
    [
        (b"text,n\na,1\n", "utf-8", ",", ""),
        (b'text;n\n"a;b";1\nc;2\n', "utf-8", ";", "separated by ';'"),
        (b"text\tn\na\t1\n", "utf-8", "\t", "separated by tabs"),
        (b"text|n\na, b, c|1\nd|2\n", "utf-8", "|", "separated by '|'"),
        (b"text\na, b\nc, d\n", "utf-8", ",", ""),
        ("text,n\ncafé,1\nnaïve,2\n".encode("cp1252"), "cp1252", ",", "encoded in cp1252"),
        (codecs.BOM_UTF16_LE + "text,n\ncafé,1\n".encode("utf-16-le"), "utf-16", ",", "utf-16"),
    ],
)
def test_delimiter_and_encoding_of_csv_are_found(
    content: bytes, encoding: str, delimiter: str, said: str, tmp_path: Path
) -> None:
    file = fingerprint(Located(written(tmp_path / "a.csv", content)))
    assert (file.encoding, file.delimiter) == (encoding, delimiter)
    assert said in assumptions(file)
    assert bool(assumptions(file)) == bool(said)


@pytest.mark.parametrize("encoding", ["cp1252", "utf-16"])
def test_text_in_another_encoding_is_read_whole(encoding: str, tmp_path: Path) -> None:
    sentences = [f"Müller & café № {n}".replace("№", "nº") for n in range(30_000)]
    path = written(tmp_path / "a.txt.gz", "\n".join(sentences).encode(encoding))
    good, bad = rows_of(opened(path))
    assert [row["text"] for row in good] == sentences
    assert not bad


def test_a_compressed_file_is_known_by_its_content_not_its_name(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(gzip.compress(b"text\nfirst\n"))
    assert rows_of(opened(tmp_path / "a.csv"))[0] == [{"row_id": 0, "text": "first"}]


# --- the text: nested, or spread over columns


def test_texts_of_several_columns_are_joined_into_one_more(tmp_path: Path) -> None:
    content = "title,body\nA title,a body\n,only body\nonly title,\n , \n"
    source = opened(written(tmp_path / "a.csv", content), text=["title", "body"])
    good, bad = rows_of(source)
    assert [row["title_body"] for row in good] == ["A title a body", "only body", "only title"]
    assert good[0]["title"] == "A title"
    assert [(row.row, row.reason) for row in bad] == [(4, "the text is blank")]


def test_a_nested_field_is_named_with_a_dot(tmp_path: Path) -> None:
    records = [{"review": {"text": "first"}}, {"review": {}}, {"review": {"text": "second"}}]
    lines = written(tmp_path / "a.jsonl", "\n".join(map(json.dumps, records)))
    pq.write_table(pa.Table.from_pylist([*records[:1], records[2]]), tmp_path / "a.parquet")
    good, bad = rows_of(opened(lines, text=["review.text"]))
    assert [row["review_text"] for row in good] == ["first", "second"]
    assert [row.row for row in bad] == [2]
    good, _ = rows_of(opened(tmp_path / "a.parquet", text=["review.text"]))
    assert [row["review_text"] for row in good] == ["first", "second"]
    with pytest.raises(InputError, match=r"no field 'txt' .*did you mean 'text'"):
        opened(tmp_path / "a.parquet", text=["review.txt"])
    with pytest.raises(InputError, match=r"not text; name a field: review\.text"):
        opened(tmp_path / "a.parquet", text=["review"])
    with pytest.raises(InputError, match=r"no field 'txt' in 'review'; did you mean 'text'\?"):
        opened(lines, text=["review.txt"])
    for unnamed in (lines, tmp_path / "a.parquet"):
        with pytest.raises(InputError, match=r"no text column .* can name a field: review\.text"):
            opened(unnamed)


def test_a_limit_counts_rows_over_all_files(tmp_path: Path) -> None:
    one = written(tmp_path / "1.txt", "a\n\nb\n")
    two = written(tmp_path / "2.txt", "c\nd\ne\nf\ng\n")
    good, bad = rows_of(opened(one, two, limit=5))
    assert [row["text"] for row in good] == ["a", "b", "c", "d"]
    assert len(bad) == 1


def test_ids_that_repeat_or_lack_are_refused_with_both_rows(tmp_path: Path) -> None:
    good = opened(written(tmp_path / "good.csv", "text,id\na,1\nb,2\n"))
    check_ids(good, "id")
    twice = opened(tmp_path / "good.csv", written(tmp_path / "more.csv", "text,id\nc,3\nd,2\n"))
    with pytest.raises(InputError, match=r"more\.csv:2: id '2' is that of .*good\.csv:2, too"):
        check_ids(twice, "id")
    lacking = opened(written(tmp_path / "lack.csv", "text,id\na,1\nb,\n"))
    with pytest.raises(InputError, match=r"lack\.csv:2: no id in column 'id'"):
        check_ids(lacking, "id")
    with pytest.raises(InputError, match="no id column 'idd'; did you mean 'id'"):
        check_ids(good, "idd")


# --- from elsewhere: patterns, stdin, addresses, datasets


def test_a_pattern_names_its_files_in_order(tmp_path: Path) -> None:
    for name in ("b1.txt", "b2.txt", "a.txt"):
        written(tmp_path / name, "x\n")
    assert [path.name for path in paths_of(list_files(str(tmp_path / "b*.txt")))] == [
        "b1.txt",
        "b2.txt",
    ]
    with pytest.raises(InputError, match="no file has such a name"):
        list_files(str(tmp_path / "c*.txt"))


def test_stdin_is_kept_and_its_format_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for content, kind, columned in (
        (b"first\nsecond\n", "txt", False),
        (b'{"text": "first"}\n', "jsonl", False),
        (b"text;n\nfirst;1\n", "csv", True),
    ):
        with io.TextIOWrapper(io.BytesIO(gzip.compress(content))) as stdin:
            monkeypatch.setattr(sys, "stdin", stdin)
            located = locate(["-"], tmp_path / "spool")
        given = AsGiven(text_columns=("text",) if columned else ())
        file = fingerprint(located.files[0], given)
        assert (file.format, file.compression, file.name) == (kind, "gzip", "-")
        assert kind in assumptions(file)
        source = open_source([file], (), TAKEN)
        assert rows_of(source)[0][0]["text"] == "first"


class _Site(BaseHTTPRequestHandler):
    failures = 0

    def do_GET(self) -> None:
        if self.path == "/gone.csv":
            self.send_error(404)
        elif type(self).failures:
            type(self).failures -= 1
            self.send_error(503)
        else:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"text,n\nfirst,1\n")

    def log_message(self, *arguments: object) -> None:
        pass


def test_an_address_is_fetched_again_after_a_failure(tmp_path: Path) -> None:
    with HTTPServer(("127.0.0.1", 0), _Site) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        site = f"http://127.0.0.1:{server.server_port}"
        _Site.failures = 1
        located = locate([f"{site}/a.csv?key=1"], tmp_path)
        file = fingerprint(located.files[0])
        assert file.name == f"{site}/a.csv?key=1"
        assert rows_of(open_source([file], (), TAKEN))[0][0]["text"] == "first"
        with pytest.raises(InputError, match=r"gone\.csv: cannot be read \(HTTP Error 404"):
            locate([f"{site}/gone.csv"], tmp_path)
        server.shutdown()


def test_a_saved_or_loadable_dataset_is_read(tmp_path: Path) -> None:
    from datasets import Dataset, DatasetDict

    made = Dataset.from_dict({"text": ["first", "second"]})
    made.save_to_disk(tmp_path / "saved")
    DatasetDict({"train": made, "test": made}).save_to_disk(tmp_path / "splits")
    for address in (f"hf://{tmp_path}/saved", f"hf://{tmp_path}/splits:test"):
        (only,) = locate([address], tmp_path / "spool").files
        good, _ = rows_of(open_source([fingerprint(only)], (), TAKEN))
        assert [row["text"] for row in good] == ["first", "second"]
    with pytest.raises(InputError, match=r"no split 'tset'; did you mean 'test'"):
        locate([f"hf://{tmp_path}/splits:tset"], tmp_path / "spool")
    files, _ = describe(list_files(str(tmp_path / "saved")).files, AsGiven())
    good, _ = rows_of(open_source(files, (), TAKEN))
    assert [row["text"] for row in good] == ["first", "second"]
    folder = tmp_path / "folder"
    folder.mkdir()
    written(folder / "train.csv", "text\nfirst\n")
    located = locate([f"hf://{folder}:train"], tmp_path / "spool")
    file = fingerprint(located.files[0])
    assert file.name == f"hf://{folder}:train"
    assert rows_of(open_source([file], (), TAKEN))[0] == [{"row_id": 0, "text": "first"}]
    with pytest.raises(InputError, match=r"hf://.*:test: cannot be loaded"):
        locate([f"hf://{folder}:test"], tmp_path / "spool")


# --- bad rows: set aside with row, line and reason


@pytest.mark.parametrize(
    ("name", "content", "row", "line", "reason"),
    [
        ("a.txt", b"good\n\ngood\n", 2, 2, "the text is blank"),
        ("a.txt", "gut ß\n".encode() + b"\xff\xfe\ngood\n", 2, 2, "not UTF-8 at byte 1"),
        ("a.csv", b"text,n\ngood,1\n  ,2\ngood,3\n", 2, 3, "the text is blank"),
        ("a.csv", b"text,n\ngood,1\nfew\ngood,3\n", 2, 3, "1 fields, the header has 2"),
        ("a.csv", b"text,n\ngood,1\na,b,c\ngood,3\n", 2, 3, "3 fields, the header has 2"),
        ("a.csv", "text,n\nß,1\n".encode() + b"caf\xe9,2\ngood,3\n", 2, 3, "not UTF-8"),
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


def test_a_quote_that_never_closes_costs_its_own_row_only(tmp_path: Path) -> None:
    content = 'text,n\n"two\nlines",1\n"open,2\nmore,3\n'
    good, bad = rows_of(opened(written(tmp_path / "a.csv", content)))
    assert [r["text"] for r in good] == ["two\nlines", "more"]
    assert [(b.row, b.line, b.text) for b in bad] == [(2, 4, '"open,2')]


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
        list_files(str(tmp_path / "review.csv"))


def test_a_folder_is_expanded_and_an_empty_one_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="the folder holds no txt/csv"):
        list_files(str(tmp_path))
    written(tmp_path / "b.txt", "x")
    written(tmp_path / "a.jsonl", "x")
    written(tmp_path / "notes.md", "x")
    assert [path.name for path in paths_of(list_files(str(tmp_path)))] == ["a.jsonl", "b.txt"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", b"", "the file is empty"),
        ("a.docx", b"x", "ends in no known format"),
    ],
)
def test_an_unusable_file_is_refused(
    name: str, content: bytes, message: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=message):
        fingerprint(Located(written(tmp_path / name, content)))


@pytest.mark.parametrize(
    ("name", "content", "column", "message"),
    [
        ("a.csv", "title,body\nx,y\n", None, "several columns could hold the text"),
        ("a.csv", "title,body\nx,y\n", "boddy", "no column 'boddy'; did you mean 'body'"),
        ("a.csv", "title,body\nx,y\n", "title.x", "no column 'title.x'"),
        ("a.csv", "text,text\nx,y\n", None, "named twice"),
        ("a.jsonl", "[1]\n", None, "no JSON object"),
        ("a.jsonl", '{"text": 1}\n', "text", "is int64, not text"),
        ("a.parquet", "not parquet", None, "not a readable Parquet file"),
        ("a.csv.gz", "", None, "the file is empty"),
    ],
)
def test_unusable_columns_are_refused(
    name: str, content: str, column: str | None, message: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=message):
        opened(written(tmp_path / name, content), text=[column] if column else [])


def test_parquet_without_text_is_refused_with_its_columns(tmp_path: Path) -> None:
    pq.write_table(pa.table({"n": [1], "m": [2.0]}), tmp_path / "a.parquet")
    with pytest.raises(InputError, match="no text column among: n, m"):
        opened(tmp_path / "a.parquet")


@pytest.mark.parametrize("ending", COMPRESS)
@pytest.mark.parametrize("kept", [0.5, 0.9])
def test_a_compressed_file_cut_short_is_an_error_not_a_short_result(
    ending: str, kept: float, tmp_path: Path
) -> None:
    # Random numbers, so that it is no single block.
    numbers = np.random.default_rng(0).integers(1 << 60, size=50_000)
    whole = COMPRESS[ending]("\n".join(map(str, numbers)).encode())
    path = tmp_path / f"a.txt{ending}"
    path.write_bytes(whole[: int(kept * len(whole))])
    with pytest.raises(InputError, match="damaged after row"):
        rows_of(opened(path))


@pytest.mark.parametrize("ending", COMPRESS)
def test_compressed_files_put_behind_one_another_are_read_to_the_end(
    ending: str, tmp_path: Path
) -> None:
    path = tmp_path / f"a.txt{ending}"
    path.write_bytes(COMPRESS[ending](b"one\n") + COMPRESS[ending](b"two\n"))
    assert [row["text"] for row in rows_of(opened(path))[0]] == ["one", "two"]


def test_a_users_column_named_like_an_output_column_is_renamed(tmp_path: Path) -> None:
    source = opened(written(tmp_path / "a.csv", "text,topic\nx,y\n"), text=["text"])
    assert [field.name for field in source.fields] == ["text", "input_topic"]


def test_files_that_disagree_on_a_columns_type_are_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": ["a"], "n": [1]}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"text": ["a"], "n": [[1.5]]}), tmp_path / "b.parquet")
    with pytest.raises(InputError, match=r"column 'n' is list<.*double>, but int64 in"):
        opened(tmp_path / "a.parquet", tmp_path / "b.parquet")


def test_old_copies_are_dropped_and_nothing_else_beside_them(tmp_path: Path) -> None:
    spool = tmp_path / "inputs"
    copy = _keep(spool, "a.txt", lambda stream: stream.write(b"text"))
    theirs = spool / "photos" / "one.jpg"
    theirs.parent.mkdir()
    theirs.write_bytes(b"x")
    (spool / "note").write_text("mine")
    (copy.parent / "beside").write_text("mine, too")
    for path in (copy.parent, theirs.parent, spool / "note"):
        os.utime(path, (0, 0))
    _keep(spool, "b.txt", lambda stream: stream.write(b"other"))
    assert not copy.exists()
    assert theirs.exists()
    assert (spool / "note").exists()
    assert (copy.parent / "beside").exists()
