"""What people do with an output: estimate it, read it, choose what is in it, look at it."""

import json
from pathlib import Path

import duckdb
import pandas as pd
import polars as pl
import pyarrow.parquet as pq
import pytest
from support import Mtl, Workers

pytestmark = pytest.mark.slow

TEXTS = ["A moving, superb film.", "A dull and clumsy film.", "The team won the league.", ""]
TOPIC = ["topic", "topic_score", "topic_typicality"]
SENTIMENT = ["sentiment", "sentiment_score", "sentiment_typicality"]
COLUMNS = ["row_id", "id", "text", *TOPIC, *SENTIMENT]


@pytest.fixture
def made(workers: Workers, mtl: Mtl, tmp_path: Path) -> Path:
    """A folder with reviews, and an output of them in ``out``; the worker stays."""
    workers.start()
    rows = "".join(f'{n},"{text}"\n' for n, text in enumerate(TEXTS))
    (tmp_path / "reviews.csv").write_text(f"id,text\n{rows}")
    done = mtl("label", "reviews.csv", "-o", "out", "--shard-rows", "2", MTL_REDIS_URL=workers.url)
    assert done.code == 0, done.err
    assert "look:   mtl show out, or mtl report out -o report.html" in done.out
    return tmp_path


def test_an_output_is_estimated_before_and_read_by_all(
    made: Path, mtl: Mtl, workers: Workers
) -> None:
    from datasets import disable_progress_bars, load_dataset

    # before: rows, shards and tokens as they then came to be
    manifest = json.loads((made / "out/_manifest.json").read_text())
    dry = mtl("label", "reviews.csv", "-o", "dry", "--shard-rows", "2", "--dry-run", "--json")
    told = json.loads(dry.out)
    assert (told["rows"], told["bad_rows"], told["shards"]) == (3, 1, len(manifest["parts"]))
    assert told["tokens"] == pytest.approx(manifest["tokens"], abs=2)
    assert told["tokens_per_s"] > 0
    assert not (made / "dry").exists()

    # read: every reader finds the same rows
    out = made / "out"
    wanted = [(0, "Positive"), (1, "Negative"), (2, "Positive")]
    found = pd.read_parquet(out).sort_values("row_id")
    assert list(found.columns) == [*COLUMNS, "truncated", "embedding"]
    assert list(zip(found["row_id"], found["sentiment"], strict=True)) == wanted
    query = f"SELECT row_id, sentiment FROM '{out}/*.parquet' ORDER BY row_id"
    assert duckdb.sql(query).fetchall() == wanted
    polars = pl.read_parquet(out / "part-*.parquet").sort("row_id")
    assert polars.select("row_id", "sentiment").rows() == wanted
    disable_progress_bars()
    loaded = load_dataset(
        "parquet", data_files=f"{out}/part-*.parquet", split="train", cache_dir=str(made / "hf")
    )
    assert sorted(zip(loaded["row_id"], loaded["sentiment"], strict=True)) == wanted

    # beside it: what it is, its columns, how to read it
    what, columns, read = (out / "_README.md").read_text().strip().split("\n\n")
    assert what.startswith("3 of 4 rows of reviews.csv, labelled by mtl-batch job label-")
    assert all(f"`{name}`" in columns for name in COLUMNS)
    assert read.startswith("Read: `duckdb")

    # look: in the terminal
    assert "A dull and clumsy film." in mtl("show", "out").out
    (only,) = json.loads(mtl("show", "out", "--label", "Negative", "--json").out)
    assert only["row_id"] == 1
    assert "did you mean 'Negative'" in mtl("show", "out", "--label", "Negativ").err


def test_what_is_written_is_chosen(made: Path, mtl: Mtl, workers: Workers) -> None:
    environment = {"MTL_REDIS_URL": workers.url}
    chosen = ("--only", "topic", "--embedding", "none", "--top", "2")
    again = mtl("label", "reviews.csv", "-o", "out", *chosen, **environment)
    assert again.code == 2
    assert ", begun with other embedding); give another folder" in again.err
    done = mtl("label", "reviews.csv", "-o", "few", *chosen, **environment)
    assert done.code == 0, done.err
    table = pq.read_table(made / "few")
    assert table.column_names == ["row_id", "id", "text", *TOPIC, "topic_top", "truncated"]
    for row in table.to_pylist():
        first, second = row["topic_top"]
        assert first == {"label": row["topic"], "score": pytest.approx(row["topic_score"])}
        assert first["score"] >= second["score"]
    assert "topic" in mtl("show", "few").out
