"""The page about a finished output: what it shows, for every kind of output."""

import json
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from jobs.cli import main
from jobs.output import ERRORS, MANIFEST, SUCCESS
from jobs.report import MAP_ROWS, SHOWN_ROWS, gather, write_report
from mtl_core.config import Embedding
from mtl_core.parquet import ERROR_SCHEMA, dictionary_column, embedding_columns
from mtl_core.place import Folder

TASKS = {"topic": ["World", "Sports"], "sentiment": ["Negative", "Positive"]}


def made_output(
    folder: Path, rows: int = 100, embedding: Embedding = "float32", parts: int = 2
) -> Path:
    """A finished output: every fourth row is Sports, every third has no sentiment."""
    folder.mkdir()
    random = np.random.default_rng(0)
    entries = []
    for part in range(parts):
        ids = np.arange(rows // parts) + part * (rows // parts)
        topics = (ids % 4 == 0).astype(np.int8)
        vectors = random.normal(size=(len(ids), 16)).astype(np.float32)
        columns = {
            "row_id": pa.array(ids),
            "text": pa.array([f"<b>text</b> {i} " + "x" * (int(i) % 7) for i in ids]),
            "topic": dictionary_column(topics, TASKS["topic"]),
            "topic_score": pa.array((0.5 + ids / (2 * rows)).astype(np.float32)),
            "sentiment": dictionary_column(topics, TASKS["sentiment"], ids % 3 == 0),
            "sentiment_score": pa.array(np.full(len(ids), 0.9, np.float32)),
            "truncated": pa.array(ids == 5),
            **embedding_columns(vectors, embedding),
        }
        name = f"part-0000{part}-a1.parquet"
        pq.write_table(pa.table(columns), folder / name)
        entries.append(
            {
                "part": name,
                "rows": len(ids),
                "worker": f"host:{part}",
                "seconds": {"label": 2.0},
                "finished_s": 1000.0 + part,
            }
        )
    (folder / ERRORS).mkdir()
    wrong = [[rows, "in.csv", 7, 8, "the text is blank", ""]]
    table = pa.Table.from_pylist(
        [dict(zip(ERROR_SCHEMA.names, row, strict=True)) for row in wrong], ERROR_SCHEMA
    )
    pq.write_table(table, folder / ERRORS / "_rows-input.parquet")
    manifest = {
        "job": "label-x",
        "model": {"name": "default", "tasks": TASKS},
        "rows": {"total": rows + 1, "labelled": rows, "errors": 1, "truncated": 1, "duplicates": 0},
        "tokens": 10 * rows,
        "seconds": 3.0,
        "finished": "2026-01-01T00:00:00Z",
        "inputs": [{"path": "in.csv"}],
        "text_column": "text",
        "embedding": embedding,
        "parts": entries,
        "errors": [{"file": f"{ERRORS}/_rows-input.parquet", "rows": 1}],
    }
    (folder / MANIFEST).write_text(json.dumps(manifest))
    (folder / SUCCESS).touch()
    return folder


class Reader(HTMLParser):
    """Counts elements and gathers text; refuses what is loaded from elsewhere."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: dict[str, int] = {}
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements[tag] = self.elements.get(tag, 0) + 1
        for name, value in attributes:
            assert name not in ("src", "href") or (value or "").startswith(("data:", "#"))

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_facts_are_those_of_all_parts(tmp_path: Path) -> None:
    facts = gather(Folder(made_output(tmp_path / "out")))
    topic, sentiment = facts.tasks
    assert topic.counts == {"World": 75, "Sports": 25}
    assert sentiment.counts["(none)"] == 34
    assert topic.scores.sum() == 100
    assert facts.cross["Sports", "Positive"] == 16
    assert [row.row_id for row in topic.unsure] == list(range(SHOWN_ROWS))
    assert [row.row_id for row in facts.truncated] == [5]
    assert facts.longest[0].text.endswith("xxxxxx")
    assert facts.reasons == [("the text is blank", 1)]


@pytest.mark.parametrize("embedding", ["float32", "float16", "int8", "binary", "none"])
def test_every_form_of_embedding_gives_a_page(embedding: Embedding, tmp_path: Path) -> None:
    output = made_output(tmp_path / "out", embedding=embedding)
    write_report(Folder(output), tmp_path / "report.html")
    page = Reader((tmp_path / "report.html").read_text())
    assert page.elements.get("circle", 0) == (0 if embedding == "none" else 100)
    assert "<b>text</b> 5" in page.text
    assert "the text is blank" in page.text
    assert "host:0" in page.text
    assert "b" not in page.elements or page.elements["b"] == 5  # texts came in as text


def test_a_page_stays_small_however_many_rows(tmp_path: Path) -> None:
    output = made_output(tmp_path / "out", rows=200_000)
    facts = write_report(Folder(output), tmp_path / "report.html")
    assert len(facts.sample) == MAP_ROWS
    assert (tmp_path / "report.html").stat().st_size < 3_000_000


def test_an_output_whose_rows_all_failed_gives_a_page(tmp_path: Path) -> None:
    output = made_output(tmp_path / "out", rows=0, parts=0)
    write_report(Folder(output), tmp_path / "report.html")
    assert "0 of 1 rows labelled" in (tmp_path / "report.html").read_text()


def test_an_unfinished_output_is_refused_in_one_line(tmp_path: Path) -> None:
    output = made_output(tmp_path / "out")
    (output / SUCCESS).unlink()
    result = CliRunner().invoke(main, ["report", str(output), "-o", str(tmp_path / "r.html")])
    assert "holds no finished output" in result.output
    assert (result.exit_code, result.output.count("\n")) == (2, 1)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("chromium") is None, reason="chromium is not installed")
def test_a_browser_shows_the_page_and_the_text_pointed_at(tmp_path: Path) -> None:
    output = made_output(tmp_path / "out")
    page = tmp_path / "report.html"
    write_report(Folder(output), page)
    probe = (
        "<script>const c=document.querySelector('circle');"
        "c.dispatchEvent(new PointerEvent('pointerover',{bubbles:true}));</script></body>"
    )
    page.write_text(page.read_text().replace("</body>", probe))
    done = subprocess.run(
        ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run",
         "--disable-background-networking", "--disable-component-update", "--disable-sync",
         "--enable-logging=stderr", f"--user-data-dir={tmp_path}/profile", "--dump-dom",
         page.as_uri()],
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert "CONSOLE" not in done.stderr
    about = done.stdout.partition('id="about"')[2].partition("</p>")[0]
    assert "text" in about
