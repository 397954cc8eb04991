"""Checking labels by hand: the rows drawn, the sheet, what is read back, and the audit."""

import csv
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
import pytest
from browsed import demand_accessible
from click.testing import CliRunner
from outputs import ROWS, TASKS
from selenium.webdriver import ActionChains, Chrome
from selenium.webdriver.common.by import By
from support import wait_until

from jobs.cli.group import main
from jobs.output.layout import read_manifest
from jobs.output.rows import batches, condition_of
from jobs.review.audit import audit
from jobs.review.draw import SheetRow, draw_rows
from jobs.review.reviewed import ReviewedRow, read_reviewed
from mtl_core.errors import InputError
from mtl_core.storage.folder import Folder


def drawn(output: Path, count: int = 200, tasks: tuple[str, ...] = ("topic",)) -> list[SheetRow]:
    return draw_rows(Folder(output), read_manifest(Folder(output)), tasks, count, seed=1)


def topic_right(row_id: int) -> bool:
    """Whether the output's topic is right, as the tests have it: less often for sure rows."""
    return row_id % 7 != 0


def checked(rows: list[SheetRow]) -> list[ReviewedRow]:
    other = {"World": "Sports", "Sports": "World"}
    found = []
    for row in rows:
        given = str(row.labels["topic"])
        right = given if topic_right(row.row_id) else other[given]
        found.append(ReviewedRow(row.row_id, {"topic": right}, row.part, row.weight))
    return found


# --- the draw


def test_three_quarters_are_drawn_at_random_and_stand_for_all_rows(output: Path) -> None:
    rows = drawn(output)
    assert len(rows) == len({row.row_id for row in rows}) == 200
    random = [row for row in rows if row.part == "random"]
    assert len(random) == 150
    assert sum(row.weight or 0 for row in random) == pytest.approx(ROWS)
    for label, share in (("World", 2 / 3), ("Sports", 1 / 3)):
        assert sum(row.labels["topic"] == label for row in random) / 150 == pytest.approx(
            share, abs=0.03
        )


def test_the_others_are_the_least_sure_of_the_tasks_to_check(output: Path) -> None:
    unsure = [row for row in drawn(output) if row.part == "unsure"]
    assert len(unsure) == 50
    assert max(row.row_id for row in unsure) < 150  # scores grow with the number
    assert all(row.weight is None for row in unsure)


def test_the_same_seed_draws_the_same_rows(output: Path) -> None:
    assert drawn(output) == drawn(output)


def test_an_output_with_fewer_rows_is_checked_whole(output: Path) -> None:
    rows = drawn(output, count=ROWS + 5)
    assert sorted(row.row_id for row in rows) == list(range(ROWS))
    assert {(row.part, row.weight) for row in rows} == {("random", 1.0)}


# --- the sheet, and what is read back


def test_a_csv_sheet_filled_in_is_read_back(output: Path, tmp_path: Path) -> None:
    sheet = tmp_path / "sheet.csv"
    done = CliRunner().invoke(main, ["review", str(output), "-o", str(sheet), "-n", "40"])
    assert done.exit_code == 0, done.output
    lines = list(csv.DictReader(sheet.read_text(encoding="utf-8-sig").splitlines()))
    assert list(lines[0]) == ["row_id", "topic", "sentiment", "text", "part", "weight", "output"]
    assert {line["topic"] for line in lines} == {""}  # labels given are hidden
    lines[0]["topic"], lines[1]["topic"], lines[1]["sentiment"] = "World", "?", "Positive"
    with sheet.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, lines[0], delimiter=";")  # as some spreadsheets write it
        writer.writeheader()
        writer.writerows(lines)
    rows = read_reviewed(sheet, TASKS)
    assert [row.labels for row in rows[:3]] == [{"topic": "World"}, {"sentiment": "Positive"}, {}]
    assert [row.row_id for row in rows] == [int(line["row_id"]) for line in lines]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("row_id,topic\n1,World\n2,Sprots\n", "r.csv:2: 'Sprots' is no label of 'topic'; did you"),
        ("row_id,topic\n1,World\n1,Sports\n", "r.csv:2: row 1 is in"),
        ("row_id,topic\n1.5,World\n", "r.csv:1: row_id is '1.5'; it must be a whole number"),
        ("row_id,topic,part\n1,World,rnd\n", "r.csv:1: part is 'rnd'"),
        ("row_id,topic,weight\n1,World,-1\n", "r.csv:1: weight is '-1'"),
        ("row_id,topics\n1,World\n", "no column is named after a task"),
        ("row_id,topic\n1,\n", "no row has a label"),
        ("id,topic\n1,World\n", "no column 'row_id'"),
    ],
)
def test_a_fault_in_a_reviewed_file_is_said_with_its_row(
    text: str, said: str, tmp_path: Path
) -> None:
    (tmp_path / "r.csv").write_text(text)
    with pytest.raises(InputError) as caught:
        read_reviewed(tmp_path / "r.csv", TASKS)
    assert said in str(caught.value)


@pytest.mark.parametrize("name", ["r.parquet", "r.jsonl", "r.json", "r.feather"])
def test_a_table_with_numbers_as_row_ids_is_read(tmp_path: Path, name: str) -> None:
    rows = [{"row_id": 3, "topic": "World"}, {"row_id": 4, "topic": None}]
    path, table = tmp_path / name, pa.Table.from_pylist(rows)
    if path.suffix == ".parquet":
        pq.write_table(table, path)
    elif path.suffix == ".feather":
        pyarrow.feather.write_feather(table, path)
    else:
        lines = [json.dumps(row) for row in rows]
        path.write_text("\n".join(lines) if path.suffix == ".jsonl" else json.dumps(rows))
    found = read_reviewed(path, TASKS)
    assert [(row.row_id, row.labels) for row in found] == [(3, {"topic": "World"}), (4, {})]


# --- the audit


def test_an_audit_is_near_the_truth_and_counts_the_random_rows_alone(output: Path) -> None:
    rows = drawn(output)
    (found,) = audit(Folder(output), checked(rows))
    truth = np.mean([topic_right(row) for row in range(ROWS)])
    assert (found.task, found.random, found.unsure) == ("topic", 150, 50)
    assert found.accuracy is not None
    assert found.accuracy.low < truth < found.accuracy.high
    assert sum(share.value for share in found.shares.values()) == pytest.approx(1, abs=1e-6)
    assert sum(sum(line.values()) for line in found.confusion.values()) == pytest.approx(1)


def test_rows_that_no_sheet_drew_count_as_random_only_if_the_user_says_so(output: Path) -> None:
    rows = [ReviewedRow(row, {"topic": "World"}, "", None) for row in range(0, ROWS, 20)]
    with pytest.raises(InputError, match="say so by --random"):
        audit(Folder(output), rows)
    (found,) = audit(Folder(output), rows, random=True)
    assert found.random == len(rows)


def test_rows_of_another_output_are_refused(output: Path) -> None:
    with pytest.raises(InputError, match="no labelled row 99999"):
        audit(Folder(output), [ReviewedRow(99999, {"topic": "World"}, "random", 1.0)])
    few = [ReviewedRow(row, {"topic": "World"}, "random", 3.0) for row in range(100)]
    with pytest.raises(
        InputError, match="stand for 300 rows by their weights, the output has 2,000"
    ):
        audit(Folder(output), few)


def test_every_row_checked_leaves_no_doubt(output: Path) -> None:
    (found,) = audit(Folder(output), checked(drawn(output, count=ROWS)))
    truth = np.mean([topic_right(row) for row in range(ROWS)])
    assert found.accuracy is not None
    assert found.accuracy.value == pytest.approx(truth)
    assert found.accuracy.width == 0


def test_the_command_says_accuracy_shares_and_what_is_mistaken(
    output: Path, tmp_path: Path
) -> None:
    path = tmp_path / "reviewed.csv"
    rows = checked(drawn(output))
    lines = [f"{row.row_id},{row.labels['topic']},{row.part},{row.weight or ''}" for row in rows]
    path.write_text("\n".join(["row_id,topic,part,weight", *lines]) + "\n")
    done = CliRunner().invoke(main, ["audit", str(output), str(path)])
    assert done.exit_code == 0, done.output
    assert "topic: 150 rows checked at random, 50 others checked and not counted" in done.output
    assert "more rows at random for an interval 5.0% long" in done.output
    asked = CliRunner().invoke(main, ["audit", str(output), str(path), "--json"])
    assert set(json.loads(asked.output)["topic"]) >= {"accuracy", "shares", "confusion", "slices"}


# --- a slice of the output


@pytest.mark.parametrize(
    ("condition", "rows"),
    [
        ("topic = 'Sports'", 667),
        ("topic != 'Sports' and row_id < 9", 6),
        ("sentiment is null", 200),
        ("sentiment is not null and topic in ('World', 'Sports')", 1800),
        ("topic_score >= 0.9497", 1),
    ],
)
def test_a_condition_picks_the_rows_it_says(output: Path, condition: str, rows: int) -> None:
    folder = Folder(output)
    manifest = read_manifest(folder)
    where = condition_of(folder, manifest, condition)
    assert sum(len(batch) for batch in batches(folder, manifest, ["row_id"], where)) == rows


@pytest.mark.parametrize(
    ("condition", "said"),
    [
        ("tpic = 'Sports'", "no column 'tpic'; did you mean 'topic'?"),
        ("topic", "a condition is COLUMN = 'TEXT'"),
        ("topic = 'a' or topic = 'b'", "a condition is"),
        ("topic = 3", "does not fit the columns"),
        ("topic in ()", "a condition is"),
        ("topic = 'a' and", "a condition is"),
    ],
)
def test_a_condition_that_cannot_be_read_is_one_line(
    output: Path, condition: str, said: str, tmp_path: Path
) -> None:
    options = ["-o", str(tmp_path / "s.csv"), "--where", condition]
    done = CliRunner().invoke(main, ["review", str(output), *options])
    assert done.exit_code != 0
    assert said in done.output
    assert done.output.count("\n") == 1


def test_a_slice_is_audited_by_the_condition_it_was_drawn_by(output: Path) -> None:
    folder, where = Folder(output), "topic = 'Sports'"
    manifest = read_manifest(folder)
    condition = condition_of(folder, manifest, where)
    rows = checked(draw_rows(folder, manifest, ["topic"], 100, 1, condition))
    with pytest.raises(InputError, match="by the same --where"):
        audit(folder, rows)
    (found,) = audit(folder, rows, where=where)
    truth = np.mean([topic_right(row) for row in range(0, ROWS, 3)])
    assert found.accuracy is not None
    assert found.accuracy.low < truth < found.accuracy.high


# --- the page, in a real browser


@pytest.fixture
def sheet(output: Path, tmp_path: Path) -> Path:
    path = tmp_path / "sheet.html"
    done = CliRunner().invoke(main, ["review", str(output), "-o", str(path), "-n", "24"])
    assert done.exit_code == 0, done.output
    return path


def said(browser: Chrome) -> str:
    return browser.find_element(By.ID, "count").text


@pytest.mark.slow
def test_a_sheet_is_filled_in_by_keys_kept_by_the_browser_and_saved(
    browser: Chrome, sheet: Path, tmp_path: Path
) -> None:
    browser.execute_cdp_cmd(
        "Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(tmp_path)}
    )
    browser.get(sheet.as_uri())
    keys = lambda text: ActionChains(browser).send_keys(text).perform()  # noqa: E731
    assert "(given)" not in browser.find_element(By.ID, "tasks").text
    keys("2")  # topic: Sports
    assert said(browser).startswith("0 of 24 checked; row 1 ")
    keys("1")  # sentiment: Negative
    assert said(browser).startswith("1 of 24 checked; row 2 ")
    keys("?")
    keys("1")
    keys("u")  # back to the row just left
    assert "row 3 " in said(browser) or "row 2 " in said(browser)
    browser.refresh()
    assert said(browser).startswith(("1 of 24", "2 of 24"))
    browser.find_element(By.ID, "show").click()
    assert "(given)" in browser.find_element(By.ID, "tasks").text
    keys(" ")  # accepts the labels given
    keys("s")
    saved = tmp_path / "reviewed.csv"
    wait_until(saved.exists, 10, "the file is saved")
    rows = read_reviewed(saved, TASKS)
    assert dict(rows[0].labels) == {"topic": "Sports", "sentiment": "Negative"}
    assert {row.part for row in rows} <= {"random", "unsure"}
    assert browser.get_log("browser") == []


@pytest.mark.slow
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_sheet_is_accessible_in_both_themes(browser: Chrome, sheet: Path, theme: str) -> None:
    demand_accessible(browser, sheet, theme, ActionChains(browser).send_keys("1").perform)
