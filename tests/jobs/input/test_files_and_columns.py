"""Which files and columns are taken: folders, tables, types over files, names, the text column."""

import gzip
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.input.columns import one_type
from jobs.input.files import AsGiven, describe, fingerprint
from jobs.input.folders import Listing, Located, in_store, list_files
from jobs.input.ids import check_ids
from jobs.input.locate import locate
from jobs.input.source import Source, open_source, read_source
from jobs.label.plan import ShardCutter
from jobs.label.staging import stage_shard
from jobs.specs import LabelSpec
from mtl_core.errors import InputError
from mtl_core.storage.folder import Folder

TAKEN = {"row_id", "topic", "topic_score", "embedding"}


def written(path: Path, content: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    return path


def parquet(path: Path, **columns: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path)
    return path


def names_of(listing: Listing, root: Path) -> list[str]:
    return [str(file.path.relative_to(root)) for file in listing.files]


def source_of(argument: Path | str, *text: str) -> Source:
    files, _ = describe(list_files(str(argument)).files, AsGiven(text_columns=text))
    return open_source(files, text, TAKEN)


def staged(source: Source, folder: Path) -> list[dict[str, Any]]:
    """The rows as workers get them: planned, staged as Parquet, read back."""
    spec = LabelSpec.model_construct(shard_tokens=10**6, shard_rows=10**6, precision="auto")
    cutter = ShardCutter(spec, source)
    rows: list[dict[str, Any]] = []
    shards = [table for chunk in read_source(source) for table in cutter.add(chunk)]
    for number, table in enumerate([*shards, *cutter.rest()]):
        _, definition = stage_shard(Folder(folder), str(number), table)
        path = folder / "_work" / "shards" / str(definition["file"])
        rows += pq.read_table(path, partitioning=None).to_pylist()
    return rows


# --- folders


def test_what_a_folder_holds_beside_its_input_is_said(tmp_path: Path) -> None:
    data = tmp_path / "data"
    written(data / "own.csv", "text\nx\n")
    written(data / "reviews.csv.zip", "PK")
    written(data / "c.json", '[{"text": "json film"}]')
    written(tmp_path / "real" / "x.csv", "text\nlinked\n")
    (data / "sub").symlink_to("../real")
    (data / "dangling.csv").symlink_to("gone.csv")
    (data / "same.csv").symlink_to("own.csv")
    listing = list_files(str(data))
    assert names_of(listing, data) == ["c.json", "own.csv", "sub/x.csv"]
    assert listing.notes == [
        "not read, a link to nothing: dangling.csv",
        "not read, no known format: reviews.csv.zip",
        "not read, a link to a file that is read: same.csv",
    ]


def test_links_that_go_round_end(tmp_path: Path) -> None:
    written(tmp_path / "a" / "x.csv", "text\nx\n")
    (tmp_path / "a" / "up").symlink_to("..")
    (tmp_path / "b").symlink_to("a")
    listing = list_files(str(tmp_path))
    assert names_of(listing, tmp_path) == ["a/x.csv"]
    assert listing.notes == ["not read, a link to a folder that is read: a/up, b"]


def test_settings_in_json_are_no_rows_and_rows_in_json_are(tmp_path: Path) -> None:
    written(tmp_path / "a.csv", "text\nx\n")
    written(tmp_path / "config.json", '{"text": "no row"}')
    written(tmp_path / "info.json", json.dumps({"text": "no row"}, indent=1))
    written(tmp_path / "part-0.json", '{"text": "one"}\n{"text": "two"}\n')
    (tmp_path / "z.ndjson.gz").write_bytes(gzip.compress(b'{"text": "a single row"}\n'))
    files, notes = describe(list_files(str(tmp_path)).files, AsGiven())
    names = [Path(file.path).name for file in files]
    assert names == ["a.csv", "part-0.json", "z.ndjson.gz"]
    assert len(notes) == 1
    assert "config.json" in notes[0]


def test_an_output_below_an_input_is_no_input(tmp_path: Path) -> None:
    written(tmp_path / "a.csv", "text\nx\n")
    for folder, mark in (("out", "_manifest.json"), ("deep/running", "_work/job.json")):
        written(tmp_path / folder / mark, "{}")
        parquet(tmp_path / folder / "part-00000-a1.parquet", text=["labelled"])
        parquet(tmp_path / folder / "_work" / "shards" / "shard-0.parquet", text=["staged"])
    for argument in (tmp_path, f"{tmp_path}/**/*", f"{tmp_path}/*/../**/*.csv"):
        listing = list_files(str(argument))
        assert {file.path.name for file in listing.files} == {"a.csv"}
    assert list_files(str(tmp_path)).notes == ["not read, an output of mtl: deep/running, out"]
    # Named itself, an output is an input like any other.
    assert [f.path.name for f in list_files(str(tmp_path / "out")).files] == [
        "part-00000-a1.parquet"
    ]
    assert list_files(f"{tmp_path}/out/*.parquet").files


def test_in_a_store_hidden_names_and_outputs_are_passed_over_too() -> None:
    names = [
        "a.csv",
        "_work/x.csv",
        ".hidden/b.csv",
        "out/_manifest.json",
        "out/part-0.parquet",
        "out/errors/_rows-input.parquet",
        "sub/_work/job.json",
        "sub/part-1.parquet",
        "notes.md",
    ]
    kept, left = in_store(names)
    assert kept == ["a.csv"]
    assert left == {"an output of mtl": ["out", "sub"], "no known format": ["notes.md"]}
    assert in_store(names, "**/*.parquet")[0] == []
    with pytest.raises(InputError, match="Delta"):
        in_store(["t/_delta_log/00000000000000000000.json", "t/a.parquet"])


def test_an_empty_file_of_a_folder_is_passed_over_and_said(tmp_path: Path) -> None:
    written(tmp_path / "a.csv", "text\nx\n")
    written(tmp_path / "b.csv", "")
    written(tmp_path / "c.jsonl", "\n")
    files, notes = describe(list_files(str(tmp_path)).files, AsGiven())
    assert [Path(file.path).name for file in files] == ["a.csv"]
    assert len(notes) == 1
    assert notes[0].startswith("not read, the file is empty: ")
    with pytest.raises(InputError, match=r"b\.csv: the file is empty"):
        describe([Located(tmp_path / "b.csv")], AsGiven())


def test_folders_named_key_value_give_columns(tmp_path: Path) -> None:
    for folder in ("lang=en/day=2024-01-02", "lang=a%20b/day=2024-01-03", "lang=fr"):
        parquet(tmp_path / folder / "p.parquet", text=[folder])
    parquet(tmp_path / "lang=__HIVE_DEFAULT_PARTITION__" / "p.parquet", text=["none"])
    parquet(tmp_path / "lang=own" / "p.parquet", text=["own"], lang=["the file's"])
    for argument in (tmp_path, f"{tmp_path}/**/*.parquet"):
        rows = staged(source_of(argument, "text"), tmp_path / "staged")
        found = {row["text"]: (row["lang"], row["day"]) for row in rows if row["text"] != "staged"}
        assert found == {
            "lang=en/day=2024-01-02": ("en", "2024-01-02"),
            "lang=a%20b/day=2024-01-03": ("a b", "2024-01-03"),
            "lang=fr": ("fr", None),
            "none": (None, None),
            "own": ("the file's", None),
        }
        shutil.rmtree(tmp_path / "staged")
    assert "columns from folders' names: lang, day" in list_files(str(tmp_path)).notes


def delta(table: Path, *entries: list[dict[str, Any]]) -> None:
    for number, actions in enumerate(entries):
        written(table / "_delta_log" / f"{number:020}.json", "\n".join(map(json.dumps, actions)))


def test_a_delta_table_holds_what_its_log_says(tmp_path: Path) -> None:
    for name in ("old.parquet", "new one.parquet", "k=v/more.parquet"):
        parquet(tmp_path / name, text=[name])
    delta(
        tmp_path,
        [{"add": {"path": "old.parquet", "partitionValues": {}}}],
        [
            {"remove": {"path": "old.parquet"}},
            {"add": {"path": "new%20one.parquet", "partitionValues": {}}},
            {"add": {"path": "k=v/more.parquet", "partitionValues": {"k": "v"}}},
        ],
    )
    rows = staged(source_of(tmp_path, "text"), tmp_path / "s")
    assert sorted((row["text"], row["k"]) for row in rows) == [
        ("k=v/more.parquet", "v"),
        ("new one.parquet", None),
    ]


@pytest.mark.parametrize(
    "action",
    [
        {"add": {"path": "a.parquet", "deletionVector": {"storageType": "u"}}},
        {"metaData": {"configuration": {"delta.columnMapping.mode": "name"}}},
        {"add": {"path": "gone.parquet"}},
    ],
)
def test_a_delta_table_that_needs_more_than_its_log_is_refused(
    action: dict[str, Any], tmp_path: Path
) -> None:
    parquet(tmp_path / "a.parquet", text=["x"])
    delta(tmp_path, [{"add": {"path": "a.parquet"}}, action])
    with pytest.raises(InputError, match=r"a Delta table of which .*write its rows to a folder"):
        list_files(str(tmp_path))
    (tmp_path / "_delta_log" / f"{0:020}.json").rename(tmp_path / "_delta_log" / f"{5:020}.json")
    with pytest.raises(InputError, match="the beginning of its log is missing"):
        list_files(str(tmp_path))


@pytest.mark.parametrize("mark", ["metadata/00000.metadata.json", ".hoodie/hoodie.properties"])
def test_other_tables_are_refused(mark: str, tmp_path: Path) -> None:
    parquet(tmp_path / "data" / "a.parquet", text=["x"])
    written(tmp_path / mark, "{}")
    with pytest.raises(InputError, match=r"(Iceberg|Hudi) table"):
        list_files(str(tmp_path))


# --- single files


@pytest.mark.parametrize(
    ("name", "content", "what"),
    [
        ("a.zip", "PK\x03\x04", "unzip -p"),
        ("a.xlsx", "PK\x03\x04", "save its sheet as csv"),
        ("a.csv", "PK\x03\x04", "is a zip archive or a spreadsheet"),
        ("a.csv", "PAR1", "give --input-format parquet"),
        ("a.avro", "x", "write its rows as Parquet"),
        ("a.docx", "x", "give --input-format"),
    ],
)
def test_a_file_of_another_kind_is_refused_with_a_way_out(
    name: str, content: str, what: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=what):
        fingerprint(Located(written(tmp_path / name, content)))


@pytest.mark.parametrize("argument", ["", " "])
def test_an_empty_input_is_refused(argument: str) -> None:
    with pytest.raises(InputError, match="an INPUT is empty"):
        list_files(argument)


def test_a_pipe_is_read(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.write(writing, b"text,n\nfirst,1\n")
    os.close(writing)
    (only,) = locate([f"/dev/fd/{reading}"], tmp_path).files
    os.close(reading)
    file = fingerprint(only, AsGiven(format="csv"))
    assert file.name == f"/dev/fd/{reading}"
    chunks = list(read_source(open_source([file], (), TAKEN)))
    assert [row for chunk in chunks for row in chunk.chunk.table["text"].to_pylist()] == ["first"]


# --- types and names


@pytest.mark.parametrize(
    ("one", "other", "both"),
    [
        (pa.int32(), pa.int64(), pa.int64()),
        (pa.int64(), pa.float64(), pa.float64()),
        (pa.int64(), pa.float32(), pa.float64()),
        (pa.null(), pa.string(), pa.string()),
        (pa.string(), pa.large_string(), pa.large_string()),
        (pa.string(), pa.int64(), pa.string()),
        (pa.bool_(), pa.int8(), pa.string()),
        (pa.date32(), pa.string(), pa.string()),
        (pa.timestamp("s"), pa.timestamp("us"), pa.timestamp("us")),
        (pa.list_(pa.null()), pa.list_(pa.string()), pa.list_(pa.string())),
        (pa.dictionary(pa.int32(), pa.string()), pa.string(), pa.string()),
        (pa.list_(pa.int32()), pa.string(), None),
        (pa.binary(), pa.string(), None),
        (pa.timestamp("us", "UTC"), pa.timestamp("us"), None),
    ],
)
def test_two_files_types_become_one_that_holds_both(
    one: pa.DataType, other: pa.DataType, both: pa.DataType | None
) -> None:
    assert one_type(one, other) == both
    assert one_type(other, one) == both


def test_files_of_different_types_are_labelled_together(tmp_path: Path) -> None:
    parquet(tmp_path / "a.parquet", text=["a"], n=pa.array([1], "int32"), m=[1], note=pa.nulls(1))
    parquet(
        tmp_path / "b.parquet", text=pa.array(["b"], "large_string"), n=[2], m=[1.5], note=["x"]
    )
    source = source_of(tmp_path, "text")
    assert {field.name: str(field.type) for field in source.fields} == {
        "text": "large_string",
        "n": "int64",
        "m": "double",
        "note": "string",
    }
    assert [(r["n"], r["m"], r["note"]) for r in staged(source, tmp_path / "s")] == [
        (1, 1.0, None),
        (2, 1.5, "x"),
    ]


def test_long_ids_stay_exact_over_files(tmp_path: Path) -> None:
    written(tmp_path / "a.jsonl", '{"text": "a", "id": 1477429000000000123}\n')
    written(tmp_path / "b.jsonl", '{"text": "b", "id": 1.5}\n')
    source = source_of(tmp_path)
    assert [row["id"] for row in staged(source, tmp_path / "s")] == ["1477429000000000123", "1.5"]
    assert any("column 'id' is carried through as text" in note for note in source.notes)
    parquet(tmp_path / "p" / "a.parquet", text=["a"], id=[1477429000000000123])
    parquet(tmp_path / "p" / "b.parquet", text=["b"], id=[1.5])
    with pytest.raises(InputError, match=r"a\.parquet: column 'id' cannot be carried through as"):
        staged(source_of(tmp_path / "p"), tmp_path / "s2")


def test_categories_of_many_files_stay_what_they_were(tmp_path: Path) -> None:
    for number in range(2):
        cities = pa.array([f"city {number} {n}" for n in range(100)]).dictionary_encode()
        city = pa.DictionaryArray.from_arrays(cities.indices.cast("int8"), cities.dictionary)
        texts = [f"t {n}" for n in range(100)]
        parquet(tmp_path / f"{number}.parquet", text=texts, city=city)
    rows = staged(source_of(tmp_path, "text"), tmp_path / "s")
    assert [row["city"] for row in rows] == [f"city {f} {n}" for f in (0, 1) for n in range(100)]


def test_names_that_differ_in_case_only_are_written_apart(tmp_path: Path) -> None:
    written(tmp_path / "a.csv", "id,text,Topic,ID,Row_Id\n1,x,Review,2,3\n")
    source = source_of(tmp_path / "a.csv", "text")
    assert [field.name for field in source.fields] == [
        "id",
        "text",
        "input_Topic",
        "input_ID",
        "input_Row_Id",
    ]
    assert ("Topic", "input_Topic") in source.renamed


def test_an_output_can_be_labelled_again_and_again(tmp_path: Path) -> None:
    parquet(tmp_path / "a.parquet", text=["x"], topic=["b"], input_topic=["a"], Input_Topic=["c"])
    names = [field.name for field in source_of(tmp_path / "a.parquet", "text").fields]
    assert names == ["text", "input_input_topic", "input_topic", "input_input_Input_Topic"]


def test_two_parquet_columns_of_one_name_are_refused(tmp_path: Path) -> None:
    table = pa.table([["x"], [1], [2]], names=["text", "n", "n"])
    pq.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(InputError, match=r"a\.parquet: column 'n' is there twice"):
        source_of(tmp_path / "a.parquet", "text")


def test_a_column_that_cannot_tell_rows_apart_is_no_id(tmp_path: Path) -> None:
    rows: dict[str, Any] = {"tags": [["x"]], "st": [{"a": 1}], "bin": [b"x"]}
    rows["vec"] = pa.array([[1.0, 2.0]], pa.list_(pa.float32(), 2))
    source = source_of(parquet(tmp_path / "a.parquet", text=["x"], n=[1.5], **rows), "text")
    check_ids(source, "n")
    for column in rows:
        with pytest.raises(InputError, match=rf"a\.parquet: column '{column}' is .*, no id; give"):
            check_ids(source, column)


# --- the text column


REVIEWS = "id,product,review\n" + "".join(
    f"{n},Blue Lamp {n % 3},The lamp number {n} is bright and nice\n" for n in range(20)
)


def test_the_column_that_reads_like_text_is_taken_and_said(tmp_path: Path) -> None:
    source = source_of(written(tmp_path / "reviews.csv", REVIEWS))
    assert source.text_column == "review"
    assert any("labelling column 'review'" in note for note in source.notes)


def test_of_columns_that_read_alike_the_likeliest_is_suggested(tmp_path: Path) -> None:
    rows = "".join(f"{n},Rather good lamp {n},A lamp that is bright {n}\n" for n in range(20))
    with pytest.raises(InputError, match=r"several columns .*--text-column body"):
        source_of(written(tmp_path / "a.csv", f"id,title,body\n{rows}"))
