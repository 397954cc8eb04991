"""The page about a finished output: what it shows, for every kind of output."""

import base64
import json
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from browsed import demand_accessible
from click.testing import CliRunner
from selenium.webdriver import ActionChains, Chrome, Keys
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import Select
from specs import manifest_for

from jobs.cli.group import main
from jobs.output.layout import ERRORS, MANIFEST, SUCCESS
from jobs.report.facts import MAP_ROWS, SHOWN_ROWS, gather
from jobs.report.near import find_contradicting
from jobs.report.page import render, write_report
from mtl_core.config import Embedding
from mtl_core.storage.folder import Folder
from mtl_core.storage.parquet import ERROR_SCHEMA, dictionary_column, embedding_columns

TASKS = {"topic": ["World", "Sports"], "sentiment": ["Negative", "Positive"]}


def made_output(
    folder: Path,
    rows: int = 100,
    embedding: Embedding = "float32",
    parts: int = 2,
    *,
    typicality: bool = False,
) -> Path:
    """A finished output: every fourth row is Sports, every third has no sentiment.

    Args:
        typicality: whether it has such columns: as if the last half of the rows were no news.
    """
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
        if typicality:
            typical = np.where(ids < rows / 2, 0.5, (rows - ids) / 10_000).astype(np.float32)
            columns["topic_typicality"] = pa.array(typical)
            columns["sentiment_typicality"] = pa.array(np.ones(len(ids), np.float32))
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
    manifest = manifest_for(
        entries,
        TASKS,
        rows={"total": rows + 1, "labelled": rows, "errors": 1, "truncated": 1},
        embedding=embedding,
        errors=[{"file": f"{ERRORS}/_rows-input.parquet", "rows": 1, "sha256": "0"}],
    )
    if typicality:
        manifest["model"]["typicality_sha256"] = "0"
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
    assert [row.row_id for row in topic.unsure.rows] == list(range(SHOWN_ROWS))
    assert [row.row_id for row in facts.truncated.rows] == [5]
    assert facts.longest.rows[0].text.endswith("xxxxxx")
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


def test_a_page_without_labelled_rows_leads_with_the_errors(tmp_path: Path) -> None:
    output = made_output(tmp_path / "out", rows=0, parts=0)
    write_report(Folder(output), tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert page.index("<h2>Rows that could not be labelled") < page.index("</main>")
    assert page.count("<h2>") == 1


def test_texts_of_any_string_type_give_a_page_and_equal_ones_stand_once(tmp_path: Path) -> None:
    output = made_output(tmp_path / "out", parts=1)
    (part,) = output.glob("*.parquet")
    table = pq.read_table(part, partitioning=None)
    texts = pa.array(["same"] * 98 + ["other", "a third"])
    for column in (texts.dictionary_encode(), texts.cast(pa.string_view())):
        pq.write_table(table.set_column(1, "text", column), part)
        facts = gather(Folder(output))
        assert [row.text for row in facts.tasks[0].unsure.rows] == ["same", "other", "a third"]
        assert [row.row_id for row in facts.tasks[0].unsure.rows] == [0, 98, 99]
        assert [row.text for row in facts.longest.rows] == ["a third", "other", "same"]


def test_a_page_says_how_much_of_the_input_fits_each_task(tmp_path: Path) -> None:
    output = made_output(tmp_path / "out", typicality=True)
    facts = write_report(Folder(output), tmp_path / "report.html")
    topic, sentiment = facts.tasks
    assert (topic.unlike, sentiment.unlike) == (50, 0)
    assert [row.row_id for row in topic.untypical.rows] == list(range(99, 89, -1))
    page = Reader((tmp_path / "report.html").read_text())
    assert "topic: 50% of the rows below 0.05" in page.text
    assert page.text.count("Least typical rows") == 1


def test_a_page_about_an_output_without_typicality_does_not_speak_of_it(tmp_path: Path) -> None:
    write_report(Folder(made_output(tmp_path / "out")), tmp_path / "report.html")
    assert "ypical" not in (tmp_path / "report.html").read_text()


def test_rows_that_a_task_does_not_fit_are_shown_dim(tmp_path: Path) -> None:
    output = made_output(tmp_path / "out", typicality=True)
    arguments = ["show", str(output), "-n", "51"]
    shown = CliRunner(env={"FORCE_COLOR": "1", "COLUMNS": "160"}).invoke(main, arguments)
    lines = shown.output.splitlines()
    dim = [line for line in lines if "\x1b[2m" in line]
    assert len(dim) == 1
    assert "\x1b[2mWorld 0.75 0.00" in dim[0]
    assert "Negative 0.90 1.00" in dim[0]


def test_an_unfinished_output_is_refused_in_one_line(tmp_path: Path) -> None:
    output = made_output(tmp_path / "out")
    (output / SUCCESS).unlink()
    result = CliRunner().invoke(main, ["report", str(output), "-o", str(tmp_path / "r.html")])
    assert "holds no finished output" in result.output
    assert (result.exit_code, result.output.count("\n")) == (2, 1)


def test_near_equal_texts_whose_labels_contradict_are_shown(tmp_path: Path) -> None:
    output = made_output(tmp_path / "out", parts=1, rows=40)
    (part,) = output.glob("*.parquet")
    table = pq.read_table(part, partitioning=None)
    first = pa.concat_tables([table.slice(0, 1), table.slice(0, 1), table.slice(2)])
    copied = table.set_column(
        table.schema.get_field_index("embedding"), "embedding", first["embedding"]
    )
    pq.write_table(copied, part)
    facts = gather(Folder(output))
    near = find_contradicting(Folder(output), facts)
    assert near is not None
    assert (near.rows, near.whole, near.groups, near.count) == (40, True, 1, 1)
    assert [row.row_id for row in near.shown[0].members] == [0, 1]
    assert near.shown[0].contradicts == ("topic",)
    page = Reader(render(facts, near)).text
    assert "1 of 1 groups" in page
    assert "among all 40 rows" in page


def test_of_a_large_output_the_sample_is_looked_through_and_the_page_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobs.report.near.WHOLE_ROWS", 99)
    monkeypatch.setattr("jobs.report.facts.MAP_ROWS", 50)
    write_report(Folder(made_output(tmp_path / "out")), tmp_path / "report.html")
    assert "the 50 rows of the page's sample only" in (tmp_path / "report.html").read_text()


def test_a_page_against_an_earlier_output_says_in_a_sentence_what_changed(tmp_path: Path) -> None:
    old, new = made_output(tmp_path / "old"), made_output(tmp_path / "new")
    target = tmp_path / "r.html"
    arguments = ["report", str(new), "--against", str(old), "-o", str(target)]
    assert CliRunner().invoke(main, arguments).exit_code == 0
    page = Reader(target.read_text()).text
    assert "No change of the input was found: p = " in page
    assert "Shares that moved most" in page
    assert "New rows least like the old" not in page


def test_outputs_that_cannot_be_compared_give_one_line_and_no_page(tmp_path: Path) -> None:
    old = made_output(tmp_path / "old", embedding="none")
    new, target = made_output(tmp_path / "new"), tmp_path / "r.html"
    result = CliRunner().invoke(
        main, ["report", str(new), "--against", str(old), "-o", str(target)]
    )
    assert "holds no embeddings" in result.output
    assert (result.exit_code, result.output.count("\n"), target.exists()) == (2, 1, False)


# --- in a real browser


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    old = Folder(made_output(folder / "old", typicality=True))
    output = Folder(made_output(folder / "out", typicality=True))
    write_report(output, folder / "report.html", against=old)
    return folder / "report.html"


def about(browser: Chrome) -> str:
    return browser.find_element(By.ID, "about").text


def circles_seen(browser: Chrome) -> int:
    return sum(c.is_displayed() for c in browser.find_elements(By.TAG_NAME, "circle"))


@pytest.mark.slow
def test_the_map_is_read_by_pointer_and_by_keys_and_its_labels_hide(
    browser: Chrome, page: Path
) -> None:
    browser.get(page.as_uri())
    assert about(browser).strip() == ""
    topmost = browser.find_elements(By.CSS_SELECTOR, "g:last-of-type circle")[-1]
    ActionChains(browser).move_to_element(topmost).perform()
    pointed = about(browser)
    assert "<b>text</b>" in pointed
    browser.find_element(By.ID, "map").send_keys(Keys.ARROW_LEFT)
    assert "<b>text</b>" in about(browser) != pointed
    assert len(browser.find_elements(By.CSS_SELECTOR, "circle.here")) == 1
    world, *_ = browser.find_elements(By.CSS_SELECTOR, ".legend button")
    assert (world.text, circles_seen(browser)) == ("World", 100)
    world.click()
    assert (world.get_attribute("aria-pressed"), circles_seen(browser)) == ("false", 25)
    world.send_keys(Keys.ENTER)
    assert circles_seen(browser) == 100
    assert browser.get_log("browser") == []


@pytest.mark.slow
def test_the_map_is_coloured_by_any_label_or_number_and_its_legend_follows(
    browser: Chrome, page: Path
) -> None:
    browser.get(page.as_uri())
    by = Select(browser.find_element(By.ID, "by"))
    assert [one.text for one in by.options] == [
        *("topic: label", "sentiment: label", "topic: score", "topic: typicality"),
        *("sentiment: score", "sentiment: typicality"),
    ]
    by.select_by_visible_text("sentiment: label")
    legend = browser.find_element(By.ID, "legend")
    assert legend.text.split() == ["Negative", "Positive", "(none)"]
    legend.find_elements(By.TAG_NAME, "button")[2].click()
    assert circles_seen(browser) == 66
    by.select_by_visible_text("topic: score")
    assert legend.text.split() == ["0.500", "0.995"]
    circles = browser.find_elements(By.TAG_NAME, "circle")
    assert len({one.value_of_css_property("fill") for one in circles}) == 100
    assert browser.get_log("browser") == []


@pytest.mark.slow
def test_the_sample_is_searched_by_words_and_the_number_found_is_announced(
    browser: Chrome, page: Path
) -> None:
    browser.get(page.as_uri())
    search = browser.find_element(By.ID, "search")
    found = browser.find_element(By.CSS_SELECTOR, "[role=status]")
    search.send_keys("TEXT 7")
    assert found.text == "19 of 100 rows found"
    assert circles_seen(browser) == 19
    assert len(browser.find_elements(By.CSS_SELECTOR, "#matches tbody tr")) == 19
    search.send_keys(Keys.BACKSPACE)
    assert found.text == "100 of 100 rows found; the first 20 are shown"
    assert len(browser.find_elements(By.CSS_SELECTOR, "#matches tbody tr")) == 20
    search.send_keys("no such")
    assert (found.text, circles_seen(browser)) == ("0 of 100 rows found", 0)
    assert not browser.find_element(By.ID, "matches").is_displayed()


@pytest.mark.slow
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_page_is_accessible_in_both_themes(browser: Chrome, page: Path, theme: str) -> None:
    def search() -> None:
        browser.find_element(By.ID, "search").send_keys("text")
        Select(browser.find_element(By.ID, "by")).select_by_visible_text("topic: score")

    passed = demand_accessible(browser, page, theme, search)
    assert passed >= {"color-contrast", "svg-img-alt"}


@pytest.mark.slow
def test_a_dark_page_prints_black_on_white(browser: Chrome, page: Path) -> None:
    feature = {"name": "prefers-color-scheme", "value": "dark"}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print", "features": [feature]})
    browser.get(page.as_uri())
    body = browser.find_element(By.TAG_NAME, "body")
    assert body.value_of_css_property("background-color") == "rgba(255, 255, 255, 1)"
    assert body.value_of_css_property("color") == "rgba(0, 0, 0, 1)"
    assert not browser.find_element(By.ID, "about").is_displayed()
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "", "features": []})
    assert base64.b64decode(browser.print_page()).startswith(b"%PDF")
