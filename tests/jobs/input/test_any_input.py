"""Any input: never a traceback, every row labelled or in errors, values carried unchanged."""

import codecs
import csv
import datetime as dt
import io
import json
import math
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st

from jobs.cli.group import main
from jobs.cli.shared.summary import print_result
from jobs.input.files import AsGiven, describe
from jobs.input.folders import list_files
from jobs.input.readers import BadRow
from jobs.input.source import Source, open_source, read_source
from jobs.label.finalise import finalise
from jobs.label.plan import ShardCutter, plan
from jobs.label.request import LabelJob
from jobs.label.staging import read_shard, stage_shard
from jobs.ledger.ledger import Ledger
from jobs.ledger.lifecycle import JobState
from jobs.ledger.messages import Publisher
from jobs.settings import Settings
from jobs.specs import LabelSpec
from mtl_core.engine.base import Labelled, TaskLabels
from mtl_core.errors import InputError
from mtl_core.storage.folder import Folder
from mtl_core.storage.parquet import output_columns, put_table
from mtl_core.tasks import Task
from worker.columns import with_labels

TASKS = (("topic", ("a", "b")), ("sentiment", ("neg", "pos")))
TAKEN = output_columns([Task(name, labels) for name, labels in TASKS], typicality=False)
quick = settings(
    max_examples=120,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)


@contextmanager
def folder() -> Iterator[Path]:
    made = Path(tempfile.mkdtemp(prefix="mtl-test-"))
    try:
        yield made
    finally:
        shutil.rmtree(made)


def labelled(rows: int) -> Labelled:
    """What an engine might say of so many texts."""
    scores = np.tile(np.array([[0.25, 0.75]], np.float32), (rows, 1))
    vectors = np.tile(np.array([[0.6, 0.8]], np.float32), (rows, 1))
    answers = tuple(TaskLabels(Task(name, labels), scores) for name, labels in TASKS)
    return Labelled(answers, vectors, np.zeros(rows, bool), np.full(rows, 3))


def spec_of(source: Source, output: Path) -> LabelSpec:
    return LabelSpec(
        inputs=source.files,
        text_columns=source.text_columns,
        text_column=source.text_column,
        output=str(output),
        model="made",
        model_dir="/nowhere",
        model_sha256="0",
        backbone_sha256="0",
        tasks=TASKS,
        embedding_size=2,
        shard_rows=7,
        shard_tokens=10_000,
    )


@dataclass
class Outcome:
    """What became of an input."""

    source: Source
    rows: dict[int, dict[str, Any]]
    """The labelled rows as they are in the output's Parquet, by ``row_id``."""
    bad: dict[int, BadRow]

    def carried(self, name: str) -> dict[int, Any]:
        """A column's values by ``row_id``."""
        return {key: row[self.source.names[name]] for key, row in self.rows.items()}


def run(where: Path, argument: Path, **known: Any) -> Outcome:
    """Read, plan, stage, label and write as the product does, but without queue and model."""
    as_given = AsGiven(**known)
    files, _ = describe(list_files(str(argument)).files, as_given)
    source = open_source(files, as_given.text_columns, TAKEN)
    spec, output = spec_of(source, where / "out"), Folder(where / "out")
    cutter = ShardCutter(spec, source)
    shards: list[pa.Table] = []
    bad: dict[int, BadRow] = {}
    for numbered in read_source(source, chunk_rows=5):
        shards += cutter.add(numbered)
        bad |= dict(zip(numbered.bad_row_ids.tolist(), numbered.chunk.bad, strict=True))
    rows: dict[int, dict[str, Any]] = {}
    for number, table in enumerate([*shards, *cutter.rest()]):
        _, definition = stage_shard(output, f"{number:05d}", table)
        staged = read_shard(output, definition)
        name = f"part-{number:05d}-a1.parquet"
        put_table(output, name, with_labels(staged, labelled(len(staged)), spec, {}))
        for row in pq.read_table(output.path / name, partitioning=None).to_pylist():
            assert row["row_id"] not in rows
            rows[row["row_id"]] = row
    assert rows.keys().isdisjoint(bad)
    assert sorted([*rows, *bad]) == list(range(len(rows) + len(bad)))
    return Outcome(source, rows, bad)


def plain(value: Any) -> Any:
    """A value so that equal ones compare equal: NaN is NaN, arrays are lists."""
    if isinstance(value, float) and math.isnan(value):
        return "NaN"
    if isinstance(value, np.ndarray | list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return value


def one_line(error: InputError, what: str = "") -> None:
    """See that a refusal is one line that names the file and says what."""
    assert "\n" not in str(error)
    assert what in str(error)


# --- tables of every Arrow type

texts = st.text(max_size=30) | st.sampled_from(
    [
        "a good film",
        "<b>bold</b> [/url] &amp;",
        "\x00\x1b[31m\x07",
        "\u200b\ufeff",
        "x" * 3000,
        "é\n\t",
    ]
)
moments = st.datetimes(dt.datetime(1700, 1, 1), dt.datetime(2200, 1, 1)).map(
    lambda moment: moment.replace(microsecond=0)
)


def whole(bits: int, signed: bool = True) -> st.SearchStrategy[int]:
    top = 1 << (bits - signed)
    return st.integers(-top if signed else 0, top - 1)


def decimals(kind: Any, digits: int) -> tuple[pa.DataType, Any]:
    ends = 10 ** (digits - 2)
    return kind(digits, 2), st.decimals(-ends + 1, ends - 1, places=2)


FLAT: list[tuple[pa.DataType, Any]] = [
    *((getattr(pa, f"int{bits}")(), whole(bits)) for bits in (8, 16, 32, 64)),
    *((getattr(pa, f"uint{bits}")(), whole(bits, signed=False)) for bits in (8, 16, 32, 64)),
    *((getattr(pa, f"float{bits}")(), st.floats(width=bits)) for bits in (16, 32, 64)),
    (pa.bool_(), st.booleans()),
    *((kind, texts) for kind in (pa.string(), pa.large_string(), pa.string_view())),
    *(
        (kind, st.binary(max_size=20))
        for kind in (pa.binary(), pa.large_binary(), pa.binary_view())
    ),
    (pa.binary(3), st.binary(min_size=3, max_size=3)),
    decimals(pa.decimal32, 9),
    decimals(pa.decimal64, 18),
    decimals(pa.decimal128, 25),
    decimals(pa.decimal256, 27),
    (pa.date32(), st.dates()),
    (pa.date64(), st.dates()),
    *((pa.time32(unit), st.just(dt.time(1, 2, 3))) for unit in ("s", "ms")),
    *((pa.time64(unit), st.times()) for unit in ("us", "ns")),
    *((pa.timestamp(unit), moments) for unit in ("s", "ms", "us", "ns")),
    *((pa.timestamp("us", zone), moments) for zone in ("UTC", "Europe/Amsterdam", "+05:30")),
    *(
        (pa.duration(unit), st.integers(-(10**6), 10**6).map(lambda s: dt.timedelta(seconds=s)))
        for unit in ("s", "ms", "us", "ns")
    ),
    (pa.null(), st.none()),
]
flat = st.sampled_from(FLAT)


def nested(inner: st.SearchStrategy[tuple[pa.DataType, Any]]) -> st.SearchStrategy[Any]:
    def lists(pair: tuple[pa.DataType, Any]) -> st.SearchStrategy[Any]:
        kind, values = pair
        many = st.lists(st.none() | values, max_size=3)
        fields = st.fixed_dictionaries({"a": values})
        two = st.lists(st.none() | values, min_size=2, max_size=2)
        return st.sampled_from(
            [
                (pa.list_(kind), many),
                (pa.large_list(kind), many),
                (pa.list_view(kind), many),
                (pa.large_list_view(kind), many),
                (pa.list_(kind, 2), two),
                (pa.struct([("a", kind), ("b.c", pa.int8())]), fields),
                (pa.map_(pa.string(), kind), st.lists(st.tuples(texts, values), max_size=2)),
            ]
        )

    return inner.flatmap(lists)


kinds = st.recursive(flat, nested, max_leaves=3)
INDICES = [f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)]


@st.composite
def arrays(draw: Any, rows: int) -> pa.Array:
    """A column of any type: those of values, and those that are ways to write values."""
    kind, values = draw(kinds)
    made = draw(st.lists(st.none() | values, min_size=rows, max_size=rows))
    try:
        array = pa.array(made, kind)
    except (pa.ArrowException, TypeError):
        assume(False)
    way = draw(st.sampled_from(["plain"] * 3 + ["dictionary", "run ends", "extension"]))
    try:
        if way == "dictionary":
            encoded = array.dictionary_encode()
            index = getattr(pa, draw(st.sampled_from(INDICES)))()
            return pa.DictionaryArray.from_arrays(encoded.indices.cast(index), encoded.dictionary)
        if way == "run ends":
            return pc.run_end_encode(array)
    except pa.ArrowException:
        return array
    if way == "extension":
        made_of = {
            pa.binary(3): None,
            pa.int8(): pa.bool8(),
            pa.string(): pa.json_(),
            pa.int64(): pa.opaque(pa.int64(), "kind", "vendor"),
        }
        if (extension := made_of.get(kind)) is not None:
            return pa.ExtensionArray.from_storage(extension, array)
        uuids = pa.array([bytes([n % 256] * 16) for n in range(rows)], pa.binary(16))
        return pa.ExtensionArray.from_storage(pa.uuid(), uuids)
    return array


@st.composite
def tables(draw: Any) -> tuple[pa.Table, list[bool]]:
    """A table with a text column and others, and which rows can be labelled."""
    rows = draw(st.integers(1, 12))
    kind = draw(st.sampled_from([pa.string(), pa.large_string(), pa.string_view(), "dictionary"]))
    words: list[str | None] = draw(st.lists(st.none() | texts, min_size=rows, max_size=rows))
    fine = [bool(word and word.strip()) for word in words]
    if kind == "dictionary":
        text = pa.array(words, pa.string()).dictionary_encode()
    else:
        text = pa.array(words, kind)
    others = draw(st.lists(arrays(rows), max_size=3))
    names = draw(
        st.lists(
            st.sampled_from(["n", "Topic", "topic", "Text", "row_id", "ünï", "a b", "input_topic"]),
            min_size=len(others),
            max_size=len(others),
            unique=True,
        )
    )
    return pa.table([text, *others], names=["text", *names]), fine


def write_arrow(table: pa.Table, path: Path) -> None:
    with pa.ipc.new_file(path, table.schema) as writer:
        writer.write_table(table, max_chunksize=4)


def write_stream(table: pa.Table, path: Path) -> None:
    with pa.ipc.new_stream(path, table.schema) as writer:
        writer.write_table(table)


WRITERS: dict[str, tuple[str, Callable[[pa.Table, Path], None]]] = {
    "parquet": ("a.parquet", lambda table, path: pq.write_table(table, path, row_group_size=5)),
    "file": ("a.arrow", write_arrow),
    "stream": ("a.feather", write_stream),
}


@quick
@given(tables(), st.sampled_from(sorted(WRITERS)))
def test_tables_of_any_type_are_carried_unchanged(
    made: tuple[pa.Table, list[bool]], form: str
) -> None:
    table, fine = made
    name, write = WRITERS[form]
    with folder() as where:
        try:
            write(table, where / name)
        except (pa.ArrowException, OSError):
            assume(False)  # that format has no such type
        if form == "parquet":
            table = pq.read_table(where / name)  # what its own writer made of it
        outcome = run(where, where / name, text_columns=("text",))
        assert sorted(outcome.rows) == [row for row, good in enumerate(fine) if good]
        for column in table.column_names:
            expected = plain(table.column(column).to_pylist())
            for row, value in outcome.carried(column).items():
                assert plain(value) == expected[row], (column, table.schema)


@quick
@given(st.data())
def test_files_of_any_two_types_are_brought_together_or_refused(data: st.DataObject) -> None:
    with folder() as where:
        (where / "in").mkdir()
        expected: list[Any] = []
        for number in range(2):
            column = data.draw(arrays(2))
            expected += plain(column.to_pylist())
            write_arrow(pa.table({"text": ["x", "y"], "n": column}), where / f"in/{number}.arrow")
        try:
            outcome = run(where, where / "in", text_columns=("text",))
        except InputError as error:
            one_line(error, "column 'n' ")
            return
        found = [plain(value) for _, value in sorted(outcome.carried("n").items())]
        for value, own in zip(found, expected, strict=True):
            # Of another type, yet the same: 1 and 1.0, or as text.
            same = value == own or isinstance(value, str) or isinstance(own, dict | list)
            assert same or isinstance(own, dt.date | float), (value, own)


UNFIT = {
    "union": pa.UnionArray.from_sparse(
        pa.array([0, 1], pa.int8()), [pa.array([1, 2]), pa.array(["a", "b"])]
    ),
    "interval": pa.array([None, None], pa.month_day_nano_interval()),
    "no fields": pa.array([{}, {}], pa.struct([])),
    "no width": pa.array([[], []], pa.list_(pa.int8(), 0)),
    "same fields": pa.StructArray.from_arrays([pa.array([1, 2])] * 2, names=["a", "a"]),
}


@pytest.mark.parametrize("name", UNFIT)
@pytest.mark.parametrize("inside", [False, True])
def test_a_type_that_parquet_lacks_is_refused_by_its_columns_name(
    name: str, inside: bool, tmp_path: Path
) -> None:
    column = UNFIT[name]
    if inside:
        column = pa.ListArray.from_arrays([0, 1, 2], column)
    write_arrow(pa.table({"text": ["x", "y"], "odd": column}), tmp_path / "a.arrow")
    with pytest.raises(InputError, match=r"a\.arrow: column 'odd' "):
        run(tmp_path, tmp_path / "a.arrow", text_columns=("text",))


@quick
@given(st.lists(st.binary(max_size=12) | texts.map(str.encode), min_size=1, max_size=12))
def test_bytes_that_are_no_text_in_a_column_of_text_go_to_errors(values: list[bytes]) -> None:
    def is_text(raw: bytes) -> bool:
        try:
            return bool(raw.decode().strip())
        except UnicodeDecodeError:
            return False

    column = pa.array(values, pa.binary()).view(pa.string())
    with folder() as where:
        pq.write_table(pa.table({"text": column, "also": column}), where / "a.parquet")
        outcome = run(where, where / "a.parquet", text_columns=("text",))
        assert sorted(outcome.rows) == [row for row, raw in enumerate(values) if is_text(raw)]


@quick
@given(st.binary(max_size=400), st.integers(0, 3000), st.sampled_from(sorted(WRITERS)))
def test_a_damaged_file_is_refused_or_read(noise: bytes, place: int, form: str) -> None:
    name, write = WRITERS[form]
    with folder() as where:
        write(pa.table({"text": [f"film {n}" for n in range(40)], "n": range(40)}), where / name)
        raw = bytearray((where / name).read_bytes())
        place %= len(raw)
        raw[place : place + len(noise)] = noise
        (where / name).write_bytes(raw)
        try:
            run(where, where / name, text_columns=("text",))
        except InputError as error:
            one_line(error)


# --- text files

cells = st.text(
    st.sampled_from("abc é,;\t|\"'\\\n\r<>&=0") | st.characters(codec="utf-8"), max_size=20
)
rows_of_cells = st.lists(st.tuples(cells, cells), min_size=1, max_size=12)


@quick
@given(
    rows_of_cells,
    st.sampled_from(",;\t|"),
    st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
    st.sampled_from(["\n", "\r\n"]),
    st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-32"]),
)
def test_what_a_csv_writer_wrote_is_read_back(
    rows: list[tuple[str, str]], delimiter: str, quoting: Any, end: str, encoding: str
) -> None:
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, delimiter=delimiter, quoting=quoting, lineterminator=end)
    writer.writerows([("id", "text", "note"), *((str(n), *row) for n, row in enumerate(rows))])
    with folder() as where:
        (where / "a.csv").write_bytes(buffer.getvalue().encode(encoding))
        outcome = run(where, where / "a.csv", text_columns=("text",))
        assert sorted(outcome.rows) == [n for n, (text, _) in enumerate(rows) if text.strip()]
        assert all(row["text"] == rows[n][0] for n, row in outcome.rows.items())
        assert all(row["note"] == rows[n][1] for n, row in outcome.rows.items())
        assert len(outcome.bad) + len(outcome.rows) == len(rows)


@quick
@given(st.lists(st.text(st.sampled_from('ab ,"\\\t'), min_size=1, max_size=12), min_size=1))
def test_no_line_of_a_tsv_is_lost_or_glued(lines: list[str]) -> None:
    with folder() as where:
        (where / "a.tsv").write_text("id\ttext\n" + "".join(f"{line}\n" for line in lines))
        outcome = run(where, where / "a.tsv", text_columns=("text",))
        if outcome.source.files[0].quotes == "none":  # else it is said that quotes are csv's
            assert len(outcome.rows) + len(outcome.bad) == len(lines)


@quick
@given(
    st.binary(max_size=300)
    | st.text(st.characters(), max_size=100).map(lambda t: t.encode("utf-8", "surrogatepass")),
    st.sampled_from(["txt", "csv", "tsv", "jsonl", "json", "parquet", "arrow"]),
    st.sampled_from([None, "utf-8", "cp1252", "utf-16", "utf-7", "gb18030", "iso2022_jp"]),
)
def test_any_bytes_are_refused_in_one_line_or_every_row_is_accounted_for(
    raw: bytes, ending: str, encoding: str | None
) -> None:
    with folder() as where:
        (where / f"a.{ending}").write_bytes(raw)
        try:
            run(where, where / f"a.{ending}", encoding=encoding)
        except InputError as error:
            one_line(error)


@quick
@given(
    st.lists(st.text(max_size=30), min_size=1, max_size=10), st.sampled_from(["utf-8", "utf-16"])
)
def test_every_line_of_a_txt_is_a_row(lines: list[str], encoding: str) -> None:
    lines = [line.replace("\n", " ").replace("\r", " ").replace("\ufeff", " ") for line in lines]
    with folder() as where:
        raw = "".join(f"{line}\n" for line in ["first", *lines]).encode(encoding)
        (where / "a.txt").write_bytes(raw)
        outcome = run(where, where / "a.txt", encoding=encoding)
        good = {n + 1: line for n, line in enumerate(lines) if line.strip()}
        assert {n: row["text"] for n, row in outcome.rows.items() if n} == good
        assert len(outcome.rows) + len(outcome.bad) == len(lines) + 1


simple = (
    st.none()
    | st.booleans()
    | st.integers(-(10**25), 10**25)
    | st.integers(-5, 5)
    | st.floats()
    | st.text(st.characters(), max_size=10)
)
values = st.recursive(
    simple,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)
objects = st.lists(
    st.dictionaries(st.sampled_from(["id", "n", "tags", "Text", "topic", ""]), values).flatmap(
        lambda record: (st.none() | texts).map(lambda text: {**record, "text": text})
    ),
    min_size=1,
    max_size=8,
)


def same_json(found: Any, own: Any) -> bool:
    """Whether a carried value is a record's, if need be as JSON text."""
    if plain(found) == plain(own) and isinstance(found, type(own)):
        return True
    if isinstance(found, float) and isinstance(own, int):
        return int(found) == own
    return isinstance(found, str) and plain(json.loads(found)) == plain(own)


@quick
@given(objects, st.sampled_from(["lines", "array", "indented"]), st.booleans())
def test_json_values_are_carried_to_the_last_digit(
    records: list[dict[str, Any]], form: str, ascii_only: bool
) -> None:
    try:
        lines = [json.dumps(record, ensure_ascii=ascii_only) for record in records]
        text = {
            "lines": "\n".join(lines),
            "array": f"[{','.join(lines)}]",
            "indented": json.dumps(records, indent=1, ensure_ascii=ascii_only),
        }[form]
        raw = text.encode()
    except UnicodeEncodeError:
        assume(False)
    with folder() as where:
        (where / "a.jsonl").write_bytes(raw)
        outcome = run(where, where / "a.jsonl", text_columns=("text",))
        assert len(outcome.rows) + len(outcome.bad) == len(records)
        for number, row in outcome.rows.items():
            for name, own in records[number].items():
                found = row[outcome.source.names[name]]
                assert found is None if own is None else same_json(found, own), (name, own)


@pytest.mark.parametrize("ending", ["txt", "csv", "tsv", "jsonl", "json"])
def test_lines_of_a_megabyte_are_read(ending: str, tmp_path: Path) -> None:
    long = [f"{letter} " * 500_000 for letter in "abc"]
    content = {
        "txt": "\n".join(long),
        "csv": "text\n" + "\n".join(f'"{text}"' for text in long),
        "tsv": "n\ttext\n" + "\n".join(f"1\t{text}" for text in long),
        "jsonl": "\n".join(json.dumps({"text": text}) for text in long),
        "json": json.dumps([{"text": text} for text in long], indent=1),
    }[ending]
    (tmp_path / f"a.{ending}").write_text(content)
    outcome = run(tmp_path, tmp_path / f"a.{ending}", text_columns=("text",), header=True)
    assert [row["text"].strip() for row in outcome.rows.values()] == [text.strip() for text in long]


# --- what is done with outputs


def finished(where: Path, url: str, argument: Path, text: str = "text") -> LabelJob:
    """A finished job of the real ledger, planner and finaliser, with made labels."""
    files, _ = describe(list_files(str(argument)).files, AsGiven(text_columns=(text,)))
    source = open_source(files, (text,), TAKEN)
    output, job = where / "out", f"label-{where.name}"
    spec = spec_of(source, output)
    ledger, publisher = Ledger(url, Settings()), Publisher(url)
    ledger.create(job, spec)
    ledger.transition(job, JobState.PLANNING)
    plan(ledger, publisher, LabelJob(job, spec, source), lambda: None)
    publisher.close()
    ledger.transition(job, JobState.RUNNING)
    for shard, definition in ledger.shards(job).items():
        ledger.claim(job, shard, shard, "worker")
        staged = read_shard(Folder(output), definition)
        part = f"part-{shard}-a1.parquet"
        made = put_table(Folder(output), part, with_labels(staged, labelled(len(staged)), spec, {}))
        result = {"part": part, "rows": len(staged), "failed": 0, "errors": ""}
        result |= {"bytes": made.bytes, "sha256": made.sha256, "attempt": 1, "worker": "worker"}
        result |= {"tokens": 3, "duplicates": 0, "cached": 0, "truncated": 0, "engine": "made"}
        result |= {"precision": "float32", "finished_s": 1.0}
        result |= {"seconds": {"load": 0.1, "label": 0.1, "write": 0.1}}
        ledger.complete(job, shard, shard, result)
    assert finalise(ledger, job)
    ledger.redis.close()
    return LabelJob(job, spec, source)


@pytest.mark.slow
@settings(quick, max_examples=10, phases=[Phase.generate])
@given(made=tables(), form=st.sampled_from(sorted(WRITERS)))
def test_any_output_can_be_verified_shown_collected_and_reported(
    redis_url: str, made: tuple[pa.Table, list[bool]], form: str
) -> None:
    table, fine = made
    name, write = WRITERS[form]
    with folder() as where:
        try:
            write(table, where / name)
        except (pa.ArrowException, OSError):
            assume(False)
        output = str(finished(where, redis_url, where / name).output)
        for arguments in (
            ("verify", output),
            ("show", output),
            ("show", output, "--json"),
            *(("collect", output, "-o", f"{where}/c.{end}") for end in ("parquet", "csv", "jsonl")),
            ("collect", output, "-o", f"{where}/by", "--by", "topic"),
            ("report", output, "-o", f"{where}/r.html"),
        ):
            done = CliRunner().invoke(main, arguments)
            assert done.exit_code in (0, 2), (arguments, done.output, table.schema)
            assert not isinstance(done.exception, BaseException) or isinstance(
                done.exception, SystemExit
            )
            if arguments[0] == "verify":
                assert done.exit_code == 0, done.output
        if any(fine):
            lines = (where / "c.jsonl").read_text().rstrip("\n").split("\n")
            assert len([json.loads(line) for line in lines]) == sum(fine)
            assert len(pq.read_table(where / "c.parquet")) == sum(fine)


KOI8 = "Очень хороший фильм\nСкучный фильм\nАкции банка упали\n".encode("koi8-r")


@pytest.mark.parametrize(
    ("name", "content", "text", "way_out"),
    [
        ("a.csv", b"Report of May\nid,text\n1,good\n", "Report of May", "names its columns"),
        ("a.txt", KOI8, "text", "by --encoding"),
        ("a.jsonl", b'{"text": null}\n{"text": " "}\n', "text", "the text is null"),
    ],
)
def test_where_no_row_was_labelled_the_command_fails_with_a_way_out(
    name: str, content: bytes, text: str, way_out: str, redis_url: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(content)
    job = finished(tmp_path, redis_url, tmp_path / name, text)
    with pytest.raises(InputError, match=f"no row could be labelled; .*{way_out}"):
        print_result(job, as_json=False)
    assert list((tmp_path / "out" / "errors").iterdir())


def test_the_byte_order_marks_of_all_encodings_are_known(tmp_path: Path) -> None:
    for number, mark in enumerate((codecs.BOM_UTF8, codecs.BOM_UTF16_BE, codecs.BOM_UTF32_LE)):
        encoding = ("utf-8", "utf-16-be", "utf-32-le")[number]
        (tmp_path / "a.txt").write_bytes(mark + "größer\nals\n".encode(encoding))
        outcome = run(tmp_path / str(number), tmp_path / "a.txt")
        assert [row["text"] for row in outcome.rows.values()] == ["größer", "als"]
