"""Two outputs compared: what is counted, and the page."""

import json
import shutil
from pathlib import Path

import pytest
from browsed import demand_accessible
from click.testing import CliRunner
from outputs import ROWS
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By

from jobs.cli.group import main
from jobs.output.layout import MANIFEST
from jobs.review.diff import diff
from jobs.review.reviewed import ReviewedRow
from mtl_core.errors import InputError
from mtl_core.storage.folder import Folder


def test_changes_are_counted_by_label_and_by_column(output: Path, later: Path) -> None:
    topic, sentiment = diff(Folder(output), Folder(later), by="lang")
    expected = [row for row in range(ROWS) if row % 3 == 0 and row % 6]
    assert topic.rows == ROWS
    assert topic.flips == {("Sports", "World"): len(expected)}
    assert topic.kept == {"World": ROWS - 667, "Sports": 334}
    assert topic.slices["de"] == (sum(row % 4 == 0 for row in expected), 500)
    assert topic.slices["en"][0] == topic.changed - topic.slices["de"][0]
    assert [change.row_id for change in topic.examples] == expected[:5]
    assert (sentiment.changed, sentiment.examples) == (0, [])


def test_checked_rows_say_which_changes_are_corrections(output: Path, later: Path) -> None:
    rows = [
        ReviewedRow(3, {"topic": "World"}, "random", 1.0),  # was Sports
        ReviewedRow(9, {"topic": "Sports"}, "random", 1.0),
        ReviewedRow(6, {"topic": "Sports"}, "random", 1.0),  # did not change
    ]
    topic, _ = diff(Folder(output), Folder(later), reviewed=rows)
    assert (topic.checked, topic.corrected, topic.spoilt) == (2, 1, 1)


def test_outputs_of_other_tasks_or_without_such_a_column_are_refused(
    output: Path, later: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="no column 'land'; did you mean 'lang'"):
        diff(Folder(output), Folder(later), by="land")
    other = shutil.copytree(output, tmp_path / "other")
    manifest = json.loads((other / MANIFEST).read_text())
    manifest["model"]["tasks"] = {"urgency": ["low", "high"]}
    (other / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(InputError, match="share no task: topic, sentiment before, urgency after"):
        diff(Folder(output), Folder(other))


def test_the_command_shows_flips_and_examples(output: Path, later: Path) -> None:
    done = CliRunner().invoke(main, ["diff", str(output), str(later), "--by", "lang"])
    assert done.exit_code == 0, done.output
    assert "topic: 333 of 2,000 labels changed (16.7%)" in done.output
    assert "lang de: " in done.output
    assert "sentiment: 0 of 2,000 labels changed (0.0%)" in done.output
    asked = CliRunner().invoke(main, ["diff", str(output), str(later), "--json"])
    flips = json.loads(asked.output)["topic"]["flips"]
    assert flips == [{"before": "Sports", "after": "World", "rows": 333}]


# --- the page


@pytest.fixture
def page(output: Path, later: Path, tmp_path: Path) -> Path:
    """A page with all there is: slices, rows checked by hand, a task that did not change."""
    target, reviewed = tmp_path / "diff.html", tmp_path / "reviewed.csv"
    reviewed.write_text("row_id,topic\n3,World\n9,Sports\n6,Sports\n")
    options = ["--by", "lang", "--reviewed", str(reviewed), "-o", str(target)]
    done = CliRunner().invoke(main, ["diff", str(output), str(later), *options])
    assert done.exit_code == 0, done.output
    assert done.output == f"{target}: {target.stat().st_size:,} bytes\n"
    return target


@pytest.mark.slow
def test_the_page_shows_what_is_printed_and_what_became_of_each_label(
    browser: Chrome, page: Path
) -> None:
    browser.get(page.as_uri())
    text = browser.find_element(By.TAG_NAME, "main").text
    for said in (
        *("topic: 333 of 2,000 labels changed (16.7%)", "sentiment: 0 of 2,000 labels changed"),
        *("Of 2 changed rows that were checked by hand", "1 (50.0%)\nare right now: corrected"),
        *("Sports World 333", "Sports 333 334 49.9%", "en 333 1,500 22.2%"),
        '3 Sports World text 3, with a "quote" and <b>',
    ):
        assert said in text
    assert browser.get_log("browser") == []
    assert "http" not in page.read_text()  # it needs nothing from elsewhere


@pytest.mark.slow
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_page_is_accessible_in_both_themes(browser: Chrome, page: Path, theme: str) -> None:
    demand_accessible(browser, page, theme)


def test_a_page_replaces_a_page_and_nothing_else(output: Path, later: Path, tmp_path: Path) -> None:
    target = tmp_path / "diff.html"
    target.write_text("mine")
    asked = ["diff", str(output), str(later), "-o", str(target)]
    refused = CliRunner().invoke(main, asked)
    assert (refused.exit_code, target.read_text()) == (2, "mine")
    assert CliRunner().invoke(main, [*asked, "--overwrite"]).exit_code == 0
    again = CliRunner().invoke(main, [*asked, "--json"])
    assert (again.exit_code, json.loads(again.output)["topic"]["changed"]) == (0, 333)
