"""The whole loop: label, check some rows, train heads on them, relabel, and see what changed."""

import csv
import json
from pathlib import Path

import pandas as pd
import pytest
from support import REPOSITORY, Mtl

pytestmark = pytest.mark.slow

EXAMPLES = REPOSITORY / "examples" / "sentences.csv"
CHECKED = 90


@pytest.fixture
def checked(mtl: Mtl, tmp_path: Path) -> Path:
    """An output, and beside it checked rows that say the other sentiment of every row."""
    ran = mtl("label", EXAMPLES, "-o", tmp_path / "out", "-q")
    assert ran.code == 0, ran.err
    rows = pd.read_parquet(tmp_path / "out").sort_values("row_id").head(CHECKED)
    other = rows["sentiment"].map({"Positive": "Negative", "Negative": "Positive"})
    write(tmp_path / "reviewed.csv", list(zip(rows["row_id"], other, strict=True)))
    return tmp_path


def test_a_new_task_is_made_of_checked_rows_alone(mtl: Mtl, checked: Path) -> None:
    topics = pd.read_parquet(checked / "out").sort_values("row_id").head(CHECKED)
    desk = topics["topic"].map(lambda topic: "sports" if topic == "Sports" else "news")
    rows = pd.DataFrame({"row_id": topics["row_id"], "desk": desk, "output": checked / "out"})
    rows.to_csv(checked / "desks.csv", index=False)
    models = {"MTL_MODELS_DIR": str(checked / "models")}
    command = ("train", "--scenario", "heads", "--from", "default", "--add", checked / "desks.csv")
    assert "no column is named after a task" in mtl(*command, "--name", "desks").err
    ran = mtl(*command, "--task", "desk", "--name", "desks", **models)
    assert ran.code == 0, ran.err
    assert f"desk: {CHECKED} checked rows, a new task" in ran.err
    ran = mtl("relabel", checked / "out", "--model", "desks", "-o", checked / "out2", **models)
    assert ran.code == 0, ran.err
    before, after = (
        pd.read_parquet(checked / name).sort_values("row_id") for name in ("out", "out2")
    )
    sports = before["topic"].to_numpy() == "Sports"
    assert ((after["desk"].to_numpy() == "sports") == sports).mean() > 0.9
    assert (before["topic"] == after["topic"]).all()
    card = (checked / "models/desks/README.md").read_text()
    assert f"- **desk**: news, sports; new, fitted to {CHECKED} checked rows" in card


def test_a_label_that_one_row_alone_has_is_named_with_its_row(mtl: Mtl, checked: Path) -> None:
    (checked / "desks.csv").write_text("row_id,desk\n0,news\n1,news\n2,sports\n3,sports\n4,sprts\n")
    ran = mtl("train", "--scenario", "heads", "--from", "default", "--name", "desks", "--task",
              "desk", "--add", checked / "desks.csv", "--output", checked / "out")  # fmt: skip
    assert ran.code == 2
    said = "desks.csv:5: no other row of 'desk' has the label 'sprts'; did you mean 'sports'"
    assert said in ran.err


def write(path: Path, rows: list[tuple[object, ...]]) -> None:
    with path.open("w", newline="") as stream:
        csv.writer(stream).writerows([("row_id", "sentiment"), *rows])


def test_checked_rows_move_the_labels_and_no_text_is_encoded_again(mtl: Mtl, checked: Path) -> None:
    heads = ("train", "--scenario", "heads", "--from", "default", "--name", "turned")
    rows = ("--add", checked / "reviewed.csv", "--output", checked / "out")
    models = {"MTL_MODELS_DIR": str(checked / "models")}
    ran = mtl(*heads, *rows, **models)
    assert ran.code == 0, ran.err
    assert f"sentiment: {CHECKED} checked rows; accuracy on them 0.000 before" in ran.err
    assert mtl(*heads, *rows, **models).code == 0  # the same job again
    ran = mtl("relabel", checked / "out", "--model", "turned", "-o", checked / "out2", **models)
    assert ran.code == 0, ran.err
    assert "no text is encoded" in ran.err
    ran = mtl("diff", checked / "out", checked / "out2", "--json",
              "--reviewed", checked / "reviewed.csv")  # fmt: skip
    before, after = (
        pd.read_parquet(checked / name).sort_values("row_id") for name in ("out", "out2")
    )
    assert (before["sentiment"] != after["sentiment"]).mean() > 0.5
    assert (before["topic"] == after["topic"]).all()
    assert ran.code == 0, ran.err
    assert json.loads(ran.out)
    assert mtl("verify", checked / "out2").code == 0
    assert mtl("compare", "turned", "default", **models).code == 0


def test_what_cannot_be_trained_on_is_said_in_one_line(mtl: Mtl, checked: Path) -> None:
    def refused(*arguments: object) -> str:
        ran = mtl("train", "--scenario", "heads", "--name", "m", *arguments)
        assert ran.code == 2, ran.err
        assert "Traceback" not in ran.err
        return ran.err.strip().splitlines()[-1]

    rows = ("--add", checked / "reviewed.csv")
    output = ("--output", checked / "out")
    assert "needs --from MODEL" in refused(*rows, *output)
    assert "their file names none" in refused("--from", "default", *rows)
    assert "needs --add FILE" in refused("--from", "default", *output)
    assert "no use for --epochs" in refused("--from", "default", *rows, *output, "--epochs", "1")
    assert "another encoder" in refused("--from", "fast", *rows, *output)
    write(checked / "reviewed.csv", [(5000, "Positive")])
    assert "row 5000 is not among the labelled rows" in refused("--from", "default", *rows, *output)
    write(checked / "reviewed.csv", [(1, "Positiv")])
    assert "did you mean 'Positive'" in refused("--from", "default", *rows, *output)
