"""How text files are cut into rows: what was found wrong in real files, each as a kind."""

import codecs
import json
from pathlib import Path
from typing import Any

import pytest

from jobs.input.files import AsGiven, assumptions, fingerprint
from jobs.input.folders import Located
from jobs.input.readers import BadRow
from jobs.input.source import Source, open_source, read_source
from mtl_core.errors import InputError

Rows = tuple[list[dict[str, Any]], list[BadRow]]


def source_of(path: Path, content: str | bytes, **given: Any) -> Source:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    known = AsGiven(**given)
    return open_source([fingerprint(Located(path), known)], known.text_columns, set())


def rows_of(source: Source) -> Rows:
    good: list[dict[str, Any]] = []
    bad: list[BadRow] = []
    for numbered in read_source(source, chunk_rows=3):
        good += numbered.chunk.table.to_pylist()
        bad += numbered.chunk.bad
    return good, bad


def read(path: Path, content: str | bytes, **given: Any) -> Rows:
    return rows_of(source_of(path, content, **given))


def texts(rows: Rows, column: str = "text") -> list[str]:
    return [row[column] for row in rows[0]]


# --- quotes


@pytest.mark.parametrize(
    "lines",
    [
        [
            '1\t"Good morning, he said.',
            "2\tShares fell.",
            '3\tA "great" film.',
            '4\t"What" he said',
        ],
        ['1\t"I loved it', "2\tIt was dull", '3\tHe called it art"', "4\tGoodbye"],
        ['1\t"a whole one"', "2\tplain", '3\tto the end "so"', '4\t"'],
    ],
)
def test_a_line_of_a_tsv_is_a_row_whatever_quotes_it_holds(
    lines: list[str], tmp_path: Path
) -> None:
    rows = read(tmp_path / "a.tsv", "id\ttext\n" + "\n".join(lines) + "\n")
    assert texts(rows) == [line.partition("\t")[2] for line in lines]
    assert not rows[1]


def test_a_tsv_that_clearly_quotes_as_csv_does_is_read_so_and_that_is_said(tmp_path: Path) -> None:
    for content, second in (
        ('id\ttext\n1\t"He said ""hi"""\n2\tplain\n', "plain"),
        ('id\ttext\n1\t"two\nlines"\n2\tplain\n', "plain"),
        ('"id"\t"text"\n"1"\t"first"\n"2"\t"plain"\n', "plain"),
    ):
        source = source_of(tmp_path / "a.tsv", content)
        assert texts(rows_of(source))[1] == second
        assert '"' not in texts(rows_of(source))[0].replace('"hi"', "")
        assert "quotes used as in csv" in assumptions(source.files[0])


def test_a_stray_quote_in_csv_costs_no_other_row(tmp_path: Path) -> None:
    lines = [
        '1,"Good, morning',
        "2,Shares fell",
        '3,"What a day" said the coach',
        '4,"a, b"',
        "5,x",
    ]
    good, bad = read(tmp_path / "a.csv", "id,text\n" + "\n".join(lines) + "\n")
    assert [row["text"] for row in good] == [
        "Shares fell",
        '"What a day" said the coach',
        "a, b",
        "x",
    ]
    assert [(row.row, row.line, row.text) for row in bad] == [(1, 2, lines[0])]
    assert "a quote is opened" in bad[0].reason


def test_every_line_of_a_csv_with_stray_quotes_is_in_the_output_or_in_errors(
    tmp_path: Path,
) -> None:
    lines = [f'{n},"open {n}' if n % 7 == 0 else f"{n},plain {n}, and" for n in range(300)]
    lines[150] = '150,"a real\ntwo-line text"'
    good, bad = read(tmp_path / "a.csv", "id,text\n" + "\n".join(lines) + "\n")
    everything = "\n".join([row["text"] for row in good] + [row.text for row in bad])
    assert all(f"open {n}" in everything for n in range(0, 300, 7))
    assert len(good) + len(bad) == 300 + (150 % 7 == 0)


def test_quotes_escaped_by_a_backslash_are_read_as_meant(tmp_path: Path) -> None:
    content = 'id,text,n\n1,"She said \\"dull, very\\" and left",1\n2,"C:\\dir",4\n3,fine,5\n'
    source = source_of(tmp_path / "a.csv", content)
    assert texts(rows_of(source)) == ['She said "dull, very" and left', "C:\\dir", "fine"]
    assert 'written as \\"' in assumptions(source.files[0])


def test_a_backslash_before_a_quote_that_ends_a_field_stays(tmp_path: Path) -> None:
    rows = read(tmp_path / "a.csv", 'id,text\n1,"in C:\\"\n2,"x, y"\n')
    assert texts(rows) == ["in C:\\", "x, y"]


# --- header and delimiter


def test_a_file_without_header_keeps_its_first_row(tmp_path: Path) -> None:
    sentences = ["A warm and funny film about two sisters.", "The plot drags and nobody cares."]
    for content, column in (
        ("".join(f'"{s}"\n' for s in sentences), "column_1"),
        (f'1,"{sentences[0]}",pos\n2,"{sentences[1]}",pos\n', "column_2"),
    ):
        source = source_of(tmp_path / "a.csv", content, text_columns=(column,))
        assert texts(rows_of(source), column) == sentences
        assert "without a header line" in assumptions(source.files[0])


@pytest.mark.parametrize(
    "content",
    [
        "id,text\n1,x\n",
        "v1,v2,,,\nham,See you at six then,,,\n",
        "review,rating\nA warm and funny film about two sisters.,5\n",
        "What did you like about the stay?,n\nThe breakfast was good and rich.,1\n",
        "0,1\n1,A warm and funny film about two sisters.\n",
    ],
)
def test_a_header_is_known_as_one(content: str, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(content)
    file = fingerprint(Located(tmp_path / "a.csv"))
    assert file.header
    assert not assumptions(file)


def test_a_first_line_that_may_be_a_row_is_said(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("1,good\n2,bad\n3,good\n")
    assert "if it is no header, give --no-header" in assumptions(
        fingerprint(Located(tmp_path / "a.csv"))
    )


def test_no_header_names_columns_by_their_places(tmp_path: Path) -> None:
    given: dict[str, Any] = {"header": False, "text_columns": ("column_2",)}
    rows = read(tmp_path / "a.csv", "text,label\nfirst,pos\n", **given)
    assert rows[0] == [
        {"column_1": "text", "column_2": "label"},
        {"column_1": "first", "column_2": "pos"},
    ]


def test_excels_line_of_the_separator_is_no_row(tmp_path: Path) -> None:
    source = source_of(
        tmp_path / "a.csv", b"sep=;\r\nid;text;note\r\n1;A good film;x\r\n\r\n2;b;\r\n"
    )
    good, bad = rows_of(source)
    assert [row["text"] for row in good] == ["A good film", "b"]
    assert not bad
    assert "separated by ';'" in assumptions(source.files[0])


def test_nameless_columns_are_left_out_where_they_are_empty_and_kept_where_not(
    tmp_path: Path,
) -> None:
    content = "v1,v2,,,\nham,See you,,,\nspam,WIN,more,,\n"
    source = source_of(tmp_path / "a.csv", content, text_columns=("v2",))
    assert [field.name for field in source.fields] == ["v1", "v2", "column_3"]
    assert any("left out 2 columns without name and content" in note for note in source.notes)
    assert rows_of(source)[0][1] == {"v1": "spam", "v2": "WIN", "column_3": "more"}


def test_empty_fields_beyond_the_header_are_no_fault(tmp_path: Path) -> None:
    good, bad = read(tmp_path / "a.csv", "id,text\n1,x,,\n2,y,,z\n3,w\n")
    assert [row["text"] for row in good] == ["x", "w"]
    assert [row.row for row in bad] == [2]


# --- encodings and line ends


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("content", ["a good film\na bad film\n", "хороший фильм\nплохой фильм\n"])
def test_utf16_without_a_mark_is_found(encoding: str, content: str, tmp_path: Path) -> None:
    source = source_of(tmp_path / "a.txt", content.encode(encoding))
    assert texts(rows_of(source)) == content.splitlines()
    assert f"encoded in {encoding}" in assumptions(source.files[0])


def test_a_zero_byte_in_utf8_is_no_utf16(tmp_path: Path) -> None:
    rows = read(tmp_path / "a.txt", b"a\0 good film\nplain text\nmore\n")
    assert texts(rows) == ["a\0 good film", "plain text", "more"]


@pytest.mark.parametrize("damage", ["cut", "surrogate"])
def test_what_is_no_utf16_costs_its_row_only(damage: str, tmp_path: Path) -> None:
    rows = ["id,text", "1,a good film", "2,so nice ", "3,a bad film"]
    raw = [f"{row}\r\n".encode("utf-16-le") for row in rows]
    if damage == "surrogate":
        raw[2] = "2,so nice ".encode("utf-16-le") + b"\x3d\xd8" + "\r\n".encode("utf-16-le")
    content = codecs.BOM_UTF16_LE + b"".join(raw) + (b"x" if damage == "cut" else b"")
    good, bad = read(tmp_path / "a.csv", content)
    expected = ["1", "3"] if damage == "surrogate" else ["1", "2", "3"]
    assert [row["id"] for row in good] == expected
    assert [row.reason for row in bad] == ["not UTF-16"]


def test_an_encoding_can_be_named(tmp_path: Path) -> None:
    words = "очень хороший фильм\nскучный фильм\n"
    rows = read(tmp_path / "a.txt", words.encode("koi8-r"), encoding="KOI8-R")
    assert texts(rows) == words.splitlines()
    with pytest.raises(InputError, match="no encoding of text; for example"):
        read(tmp_path / "a.txt", b"x", encoding="base64")
    with pytest.raises(InputError, match="--encoding nothing: no encoding"):
        read(tmp_path / "a.txt", b"x", encoding="nothing")


@pytest.mark.parametrize("name", ["a.txt", "a.csv", "a.tsv", "a.jsonl"])
def test_lines_may_end_in_carriage_returns_alone(name: str, tmp_path: Path) -> None:
    for end in ("\r", ""):
        content = {
            "a.jsonl": '{"text": "first"}\r{"text": "second"}',
            "a.txt": "first\rsecond",
        }.get(name, "text\rfirst\rsecond")
        assert texts(read(tmp_path / name, content + end)) == ["first", "second"]


def test_a_carriage_return_within_a_line_cuts_no_row(tmp_path: Path) -> None:
    assert texts(read(tmp_path / "a.txt", "ten\rtwenty\nlast\n")) == ["ten\rtwenty", "last"]
    good, bad = read(tmp_path / "a.csv", "text,n\nten\rtwenty,1\nlast,2\n")
    assert [row["text"] for row in good] == ["ten\rtwenty", "last"]
    assert not bad


# --- JSON


def test_ids_of_nineteen_digits_stay_exact_beside_a_float_or_null(tmp_path: Path) -> None:
    ids = ["1477429000000000123", "NaN", "1542657904481796104", "null", "1.5"]
    content = "".join(f'{{"id": {i}, "n": 1, "text": "x"}}\n' for i in ids)
    assert [row["id"] for row in read(tmp_path / "a.jsonl", content)[0]] == [
        *ids[:3],
        None,
        "1.5",
    ]
    whole = "".join(f'{{"id": {i}, "text": "x"}}\n' for i in (ids[0], "null", "3"))
    assert [row["id"] for row in read(tmp_path / "a.jsonl", whole)[0]] == [int(ids[0]), None, 3]


def test_rare_json_values_go_to_errors(tmp_path: Path) -> None:
    lines = [
        '{"text": "good"}',
        f'{{"text": "x", "n": {"9" * 5000}}}',
        '{"text": "x", "\\ud800": 1}',
        '{"text": "x", "in": {"\\ud800": 1}}',
        '{"text": "x", "deep": ' + "[" * 5000 + "]" * 5000 + "}",
    ]
    good, bad = read(tmp_path / "a.jsonl", "\n".join(lines))
    assert [row["text"] for row in good] == ["good"]
    assert [row.line for row in bad] == [2, 3, 4, 5]
    assert "too many digits" in bad[0].reason


RECORDS = [{"id": n, "text": f"film {n} " + "long " * (n % 50)} for n in range(3000)]


@pytest.mark.parametrize("name", ["a.json", "a.jsonl"])
@pytest.mark.parametrize("indent", [None, 1])
def test_an_array_of_objects_is_read_whatever_its_name(
    name: str, indent: int | None, tmp_path: Path
) -> None:
    good, bad = read(tmp_path / name, json.dumps(RECORDS, indent=indent))
    assert good == RECORDS
    assert not bad


def test_json_with_an_object_a_line_is_read_whatever_its_name(tmp_path: Path) -> None:
    assert read(tmp_path / "a.json", "\n".join(map(json.dumps, RECORDS)))[0] == RECORDS


def test_what_is_no_object_of_an_array_goes_to_errors_with_its_line(tmp_path: Path) -> None:
    content = b'[\n{"text": "a"},\n7,\n{"text": "\xff"},\n{"text": null},\n[["x"]],\n{"text": "b"}]'
    good, bad = read(tmp_path / "a.json", content)
    assert [row["text"] for row in good] == ["a", "b"]
    assert [(row.row, row.line) for row in bad] == [(2, 3), (3, 4), (4, 5), (5, 6)]


@pytest.mark.parametrize("content", ['[{"text": "a"},\n{"text": "b"', '[{"text": "a"},\n{"te'])
def test_an_array_that_is_cut_short_is_refused(content: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"a\.json:2: the JSON array is broken there"):
        read(tmp_path / "a.json", content)


def test_arrays_behind_one_another_are_all_read(tmp_path: Path) -> None:
    whole = json.dumps(RECORDS[:2]) + "\n" + json.dumps(RECORDS[2:], indent=1) + "\n"
    assert read(tmp_path / "a.json", whole)[0] == RECORDS
    with pytest.raises(InputError, match=r"a\.json:2: .*outside its brackets"):
        read(tmp_path / "a.json", '[{"text": "a"}]\n{"text": "b"}\n')


@pytest.mark.parametrize("array", [False, True])
def test_an_object_with_a_key_twice_loses_no_value_without_a_word(
    array: bool, tmp_path: Path
) -> None:
    twice, good = '{"text": "a", "text": "c"}', '{"text": "b"}'
    content = f"[{twice},{good}]" if array else f"{twice}\n{good}"
    rows, bad = read(tmp_path / "a.jsonl", content)
    assert [row["text"] for row in rows] == ["b"]
    assert [row.reason for row in bad] == ["key 'text' is there twice"]


def test_one_object_over_many_lines_is_refused_with_a_way_out(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="jq -c"):
        read(tmp_path / "a.json", json.dumps({"rows": RECORDS[:3]}, indent=1))
