"""Cutting an input into shards: by rows and tokens, every row once, the same each time."""

from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from specs import lines, spec_for

from jobs.input.source import open_source, read_source
from jobs.label.plan import (
    CHARACTERS_PER_TOKEN,
    SPECIAL_TOKENS,
    ShardCutter,
    growth_for,
    plan,
)
from jobs.label.request import LabelJob
from jobs.label.submit import plan_label
from jobs.ledger.ledger import Ledger
from jobs.ledger.lifecycle import JobState
from jobs.ledger.messages import Publisher
from jobs.settings import Settings
from jobs.specs import LabelSpec
from mtl_core.errors import InputError, JobError


def cut(path: Path, output: Path, chunk_rows: int = 7, **changes: object) -> list[pa.Table]:
    spec = spec_for(path, output, **changes)
    source = open_source(spec.inputs, (), set())
    cutter = ShardCutter(spec, source)
    shards = [table for chunk in read_source(source, chunk_rows) for table in cutter.add(chunk)]
    return [*shards, *cutter.rest()]


def test_shards_hold_every_row_once_in_order(tmp_path: Path) -> None:
    shards = cut(lines(tmp_path / "a.txt", [f"sentence {n}" for n in range(57)]), tmp_path)
    assert [len(shard) for shard in shards] == [10, 10, 10, 10, 10, 7]
    assert [row for shard in shards for row in shard["row_id"].to_pylist()] == list(range(57))


@pytest.mark.parametrize(
    ("rates", "expected"),
    [
        ([], 1.0),  # no worker has labelled yet
        ([20_000.0], 1.0),  # two cores: a shard takes 6.5 s
        ([400_000.0, 300_000.0], 6.104),  # the fastest needs 2 s
        ([2_000_000.0, 10_000.0], 4.578),  # a GPU beside a laptop, which needs a minute
        ([5_000_000.0], 64.0),  # memory is the limit
    ],
)
def test_shards_grow_with_how_fast_the_workers_are(rates: list[float], expected: float) -> None:
    spec = LabelSpec.model_construct(shard_rows=8192, shard_tokens=131_072)
    assert growth_for(rates, spec) == expected


def test_a_job_begins_with_small_shards(tmp_path: Path) -> None:
    path = lines(tmp_path / "a.txt", [f"sentence {n}" for n in range(9000)])
    shards = cut(path, tmp_path, shard_rows=2048, shard_tokens=10**6)
    assert [len(shard) for shard in shards] == [512, 1024, 2048, 2048, 2048, 1320]
    assert [row for shard in shards for row in shard["row_id"].to_pylist()] == list(range(9000))


def test_the_first_shard_of_an_int8_job_is_whole_for_it_is_calibrated_on(tmp_path: Path) -> None:
    path = lines(tmp_path / "a.txt", [f"sentence {n}" for n in range(3000)])
    shards = cut(path, tmp_path, shard_rows=2048, shard_tokens=10**6, precision="int8")
    assert [len(shard) for shard in shards] == [2048, 952]


def test_long_texts_make_shards_of_fewer_rows(tmp_path: Path) -> None:
    texts = ["x" * 400] * 12 + ["y" * 40] * 12  # about 100 and 10 tokens each
    shards = cut(lines(tmp_path / "a.txt", texts), tmp_path, shard_tokens=310)
    assert [len(shard) for shard in shards][:4] == [3, 3, 3, 3]
    assert max(len(shard) for shard in shards) == 10
    assert sum(len(shard) for shard in shards) == 24


def test_a_text_over_the_budget_is_a_shard_of_its_own(tmp_path: Path) -> None:
    texts = ["short", "x" * 100_000, "short"]
    shards = cut(lines(tmp_path / "a.txt", texts), tmp_path, shard_tokens=50)
    assert [len(shard) for shard in shards] == [1, 1, 1]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(1, 90), min_size=1, max_size=40),
    st.integers(1, 9),
    st.integers(1, 60),
    st.integers(1, 9),
)
def test_shards_are_those_that_row_after_row_would_give_however_the_input_is_read(
    lengths: list[int], rows: int, tokens: int, chunk_rows: int
) -> None:
    expected: list[list[int]] = []
    spent = 0
    for row, length in enumerate(lengths):
        own = length // CHARACTERS_PER_TOKEN + SPECIAL_TOKENS
        most = min(rows, 2 << (len(expected) - 1)) if expected else 0
        if expected and len(expected[-1]) < most and spent + own <= tokens:
            expected[-1].append(row)
            spent += own
        else:
            expected.append([row])
            spent = own
    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr("jobs.label.plan.FIRST_SHARD_ROWS", 2)
        path = lines(Path(folder) / "a.txt", ["x" * length for length in lengths])
        shards = cut(path, Path(folder), chunk_rows, shard_rows=rows, shard_tokens=tokens)
    assert [shard["row_id"].to_pylist() for shard in shards] == expected


def test_planning_twice_makes_the_same_shards_and_queues_them_once(
    redis_url: str, tmp_path: Path
) -> None:
    path = lines(tmp_path / "a.txt", ["good", "", *(f"sentence {n}" for n in range(30))])
    spec = spec_for(path, tmp_path / "out")
    source = open_source(spec.inputs, (), set())
    ledger, publisher = Ledger(redis_url, Settings()), Publisher(redis_url)
    ledger.create("label-x", spec)
    for _ in range(2):
        plan(ledger, publisher, LabelJob("label-x", spec, source), lambda: None)
    publisher.close()
    snapshot = ledger.snapshot("label-x")
    assert (snapshot.rows.total, snapshot.rows.failed, snapshot.shards.total) == (32, 1, 4)
    assert ledger.redis.llen("label") == 4
    errors = pq.read_table(tmp_path / "out/errors/_rows-input.parquet").to_pylist()
    assert [(e["row_id"], e["row"], e["reason"]) for e in errors] == [(1, 2, "the text is blank")]


def test_a_message_is_small_json_without_any_text(redis_url: str, tmp_path: Path) -> None:
    path = lines(tmp_path / "a.txt", ["a very secret sentence"])
    spec = spec_for(path, tmp_path / "out")
    ledger, publisher = Ledger(redis_url, Settings()), Publisher(redis_url)
    ledger.create("label-x", spec)
    job = LabelJob("label-x", spec, open_source(spec.inputs, (), set()))
    plan(ledger, publisher, job, lambda: None)
    publisher.close()
    message = str(ledger.redis.lindex("label", 0))
    assert len(message) < 1024
    assert "secret" not in message


def test_an_input_without_rows_is_refused(redis_url: str, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("text\n")
    spec = spec_for(path, tmp_path / "out")
    ledger = Ledger(redis_url, Settings())
    ledger.create("label-x", spec)
    job = LabelJob("label-x", spec, open_source(spec.inputs, (), set()))
    with pytest.raises(InputError, match=r"a\.csv: no rows"):
        plan(ledger, Publisher(redis_url), job, lambda: None)


def test_planning_stops_when_its_job_is_cancelled_or_forgotten(
    redis_url: str, tmp_path: Path
) -> None:
    path = lines(tmp_path / "a.txt", [f"sentence {n}" for n in range(30)])
    spec = spec_for(path, tmp_path / "out")
    ledger, publisher = Ledger(redis_url, Settings()), Publisher(redis_url)
    job = LabelJob("label-x", spec, open_source(spec.inputs, (), set()))

    def cancel() -> None:
        ledger.transition("label-x", JobState.CANCELLING)

    ledger.create("label-x", spec)
    assert not plan_label(ledger, publisher, job, cancel)
    assert ledger.state("label-x") is JobState.CANCELLING
    assert ledger.shards("label-x") == {}
    ledger.transition("label-x", JobState.CANCELLED)
    ledger.reopen("label-x")
    assert ledger.state("label-x") is JobState.QUEUED
    with pytest.raises(JobError, match="no job 'label-x'"):
        plan_label(ledger, publisher, job, lambda: ledger.delete("label-x"))
    assert not [name for name in ledger.redis.keys("mtl:{*") if not name.endswith(":planner")]
    publisher.close()
