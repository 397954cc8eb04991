"""Label Studio: tasks to import there, and exports read back."""

import json
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from outputs import TASKS

from jobs.cli.group import main
from jobs.review.label_studio import interface
from jobs.review.reviewed import read_reviewed
from mtl_core.errors import InputError

Json = dict[str, Any]


@pytest.fixture
def tasks(output: Path, tmp_path: Path) -> Path:
    path = tmp_path / "tasks.json"
    options = ["-o", str(path), "--format", "label-studio", "-n", "40"]
    done = CliRunner().invoke(main, ["review", str(output), *options])
    assert done.exit_code == 0, done.output
    assert f"then: mtl audit {output} EXPORT.json" in done.output
    return path


def choice(task: str, *labels: str) -> Json:
    """What Label Studio keeps of choices made."""
    chosen = {"type": "choices", "from_name": task, "to_name": "Text", "origin": "manual"}
    return {**chosen, "id": "x", "value": {"choices": list(labels)}}


def annotation(*results: Json, skipped: bool = False) -> Json:
    return {"id": 7, "completed_by": 1, "was_cancelled": skipped, "result": list(results)}


def exported(path: Path, *annotations: list[Json], **data: object) -> Path:
    """An export: rows from 0, each with its annotations."""
    entries = [
        {"id": 100 + n, "data": {"text": "t", "row_id": n, **data}, "annotations": own}
        for n, own in enumerate(annotations)
    ]
    path.write_text(json.dumps(entries))
    return path


def test_the_interface_offers_each_label_of_each_task_by_its_name() -> None:
    odd = {"topic": ["Sci/Tech", 'A "B" & <C>']}
    view = ElementTree.fromstring(interface(odd))
    text, choices = view.find("Text"), view.find("Choices")
    assert text is not None
    assert choices is not None
    assert (text.get("value"), choices.get("name")) == ("$text", "topic")
    assert choices.get("toName") == text.get("name") not in odd
    assert [each.get("value") for each in choices] == odd["topic"]


def test_tasks_hide_the_labels_given_unless_they_are_asked_for(output: Path, tasks: Path) -> None:
    entries = json.loads(tasks.read_text())
    assert len(entries) == 40
    assert {tuple(entry) for entry in entries} == {("data",)}
    assert set(entries[0]["data"]) <= {"text", "row_id", "part", "weight", "output"}
    assert "<Choices" in tasks.with_suffix(".xml").read_text()
    asked = ["review", str(output), "-o", str(tasks), "--task", "topic", "--show-labels"]
    assert CliRunner().invoke(main, asked).exit_code == 2  # the file is there
    assert CliRunner().invoke(main, [*asked, "--overwrite"]).exit_code == 0
    (given,) = json.loads(tasks.read_text())[0]["predictions"]
    assert given["model_version"] == "default"
    assert [(r["from_name"], r["type"]) for r in given["result"]] == [("topic", "choices")]


def test_an_export_is_audited_like_a_sheet_also_as_json_min(output: Path, tasks: Path) -> None:
    entries = json.loads(tasks.read_text())
    flat = []
    for number, entry in enumerate(entries):
        label = TASKS["topic"][number % 2]
        entry["annotations"] = [annotation(choice("topic", label))]
        flat.append({**entry["data"], "id": number, "topic": label, "annotator": 1})
    said = []
    for name, content in (("export.json", entries), ("min.json", flat)):
        path = tasks.with_name(name)
        path.write_text(json.dumps(content))
        done = CliRunner().invoke(main, ["audit", str(output), str(path)])
        assert done.exit_code == 0, done.output
        said.append(done.output)
    assert said[0] == said[1]
    assert "topic: 30 rows checked at random, 10 others checked" in said[0]


def test_what_was_skipped_or_left_open_is_not_checked(tmp_path: Path) -> None:
    path = exported(
        tmp_path / "e.json",
        [annotation(choice("topic", "World"), choice("sentiment"))],
        [annotation(choice("topic", "World"), skipped=True)],
        [],
        [annotation(choice("topic", "Sports")), annotation(choice("topic", "Sports"))],
        sentiment="Positive",  # of the data, which nobody chose
    )
    rows = read_reviewed(path, TASKS)
    assert [row.labels for row in rows] == [{"topic": "World"}, {}, {}, {"topic": "Sports"}]
    assert [row.row_id for row in rows] == [0, 1, 2, 3]


WORLD = annotation(choice("topic", "World"))


@pytest.mark.parametrize(
    ("write", "said"),
    [
        (
            lambda path: exported(path, [WORLD], [annotation(choice("topic", "Sprots"))]),
            "e.json:2: 'Sprots' is no label of 'topic'; did you mean 'Sports'?",
        ),
        (
            lambda path: exported(path, [WORLD, annotation(choice("topic", "Sports"))]),
            "e.json:1: row 0 is both 'World' and 'Sports' in 'topic'; leave one of them",
        ),
        (
            lambda path: exported(path, [annotation(choice("topic", "World", "Sports"))]),
            "e.json:1: row 0 is both",
        ),
        (lambda path: exported(path, [WORLD], [WORLD], row_id=1), "e.json:2: row 1 is in"),
        (
            lambda path: exported(path, [annotation(choice("label", "World"))]),
            "e.json: nothing is named after a task (topic, sentiment); there are: label",
        ),
        (lambda path: exported(path, [], []), "e.json: no row has a label"),
        (lambda path: exported(path, [WORLD], row_id=None), "e.json:1: row_id is ''"),
        (lambda path: exported(path, [12]), "e.json:1: its annotations are not as Label Studio"),
    ],
)
def test_a_fault_in_an_export_is_said_with_its_row(
    write: Callable[[Path], Path], said: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError) as caught:
        read_reviewed(write(tmp_path / "e.json"), TASKS)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "form", "said"),
    [
        ("t.csv", "label-studio", "the name of a label-studio sheet ends in .json"),
        ("t.txt", None, "the name of a sheet ends in .html or .csv or .json"),
    ],
)
def test_a_name_that_does_not_fit_the_format_is_one_line(
    output: Path, tmp_path: Path, name: str, form: str | None, said: str
) -> None:
    options = ["-o", str(tmp_path / name), *(["--format", form] if form else [])]
    done = CliRunner().invoke(main, ["review", str(output), *options])
    assert (done.exit_code, done.output.count("\n")) == (2, 1)
    assert said in done.output
