"""A task's own files: read as labelling reads them, labels by name, faults said at submit."""

import gzip
import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support import Mtl

from jobs.settings import settings
from jobs.specs import TrainSpec, job_id
from jobs.train.check import check_data
from jobs.train.data import described, load_split, split_loader
from jobs.train.made_by import MADE_BY, refuse_other
from jobs.train.request import TrainRequest, checked_data, train_spec
from mtl_core.config import train_config
from mtl_core.data.splits import LabelledTexts
from mtl_core.errors import DataError, JobError, SettingsError
from mtl_core.model.task_file import read_task_file
from mtl_core.storage.address import place_of
from mtl_core.tasks import Task

CONFIG = train_config("recommended")
Made = Callable[..., Task]


@pytest.fixture
def made(tmp_path: Path) -> Made:
    """Write a task file and give its task; its data lies in ``train``."""

    def make(labels: Sequence[str], train: str = "data.csv", **more: str) -> Task:
        lines = [f"{key} = {json.dumps(value)}" for key, value in more.items()]
        text = ["keep = []", "[mood]", f"labels = {json.dumps(labels)}", f"train = '{train}'"]
        (tmp_path / "tasks.toml").write_text("\n".join([*text, *lines]) + "\n")
        return read_task_file(tmp_path / "tasks.toml")[0]

    return make


def named(data: LabelledTexts) -> list[str]:
    return [data.task.labels[label] for label in data.labels]


# --- labels


@pytest.mark.parametrize(
    ("labels", "values"),
    [
        (["true", "false"], ["true", "false", "false"]),
        (["1", "0"], ["0", "1", "1"]),
        (["1", "2", "3", "4", "5"], ["5", "1", "3"]),
        (["-1", "0", "1"], ["-1", "1", "0"]),
        (["None", "pos"], ["None", "pos", "None"]),
        (["0.5", "1"], ["1", "0.5", "1"]),
    ],
)
def test_a_label_in_the_list_is_taken_by_its_name_in_every_format(
    labels: list[str], values: list[str], made: Made, tmp_path: Path
) -> None:
    rows = [f"text {n},{value}" for n, value in enumerate(values)]
    (tmp_path / "data.csv").write_text("\n".join(["text,label", *rows]) + "\n")
    assert named(load_split(made(labels), "train")) == values
    typed = [None if value == "None" else json.loads(value) for value in values if value != "pos"]
    if None in typed:  # of JSON, null is no label
        return
    lines = [json.dumps({"text": f"text {n}", "label": v}) for n, v in enumerate(typed)]
    (tmp_path / "data.jsonl").write_text("\n".join(lines) + "\n")
    assert named(load_split(made(labels, "data.jsonl"), "train")) == values
    table = pa.table({"text": [f"text {n}" for n in range(len(typed))], "label": typed})
    pq.write_table(table, tmp_path / "data.parquet")
    assert named(load_split(made(labels, "data.parquet"), "train")) == values


def test_whole_numbers_are_positions_where_no_label_is_a_number_and_that_is_said(
    made: Made, tmp_path: Path
) -> None:
    (tmp_path / "data.csv").write_text("text,label\na,1\nb,0\nc,1\n")
    found = load_split(made(["low", "high"]), "train")
    assert named(found) == ["high", "low", "high"]
    assert "read as positions in the task's list: '0 = low', '1 = high'" in found.notes[0]
    (tmp_path / "data.csv").write_text("text,label\na,1\nb,2\nc,1\n")
    with pytest.raises(DataError, match=r"positions 0 to 1 of 'low', 'high'\): '2' in 1 row,"):
        load_split(made(["low", "high"]), "train")
    (tmp_path / "data.csv").write_text("text,label\na,0\nb,0\nc,1\n")
    with pytest.raises(DataError, match="2 rows have no label"):  # 1 is a name here
        load_split(made(["1", "high"]), "train")


def test_all_bad_labels_are_counted_in_one_line_with_the_first_row_and_the_nearest(
    made: Made, tmp_path: Path
) -> None:
    rows = ["a,neg", "b,nge", "c,pos", "d,nge", "e,", "f,sideways"]
    (tmp_path / "data.csv").write_text("\n".join(["text,label", *rows]) + "\n")
    with pytest.raises(DataError) as caught:
        load_split(made(["neg", "pos"]), "train")
    message = str(caught.value)
    where = tmp_path / "data.csv"
    assert message.count("\n") == 0
    assert "4 rows have no label of task 'mood' (it has 'neg', 'pos')" in message
    assert f"'nge' in 2 rows, the first {where}:2, did you mean 'neg'?" in message
    assert f"no label in 1 row, the first {where}:5" in message
    assert f"'sideways' in 1 row, the first {where}:6" in message


# --- files


def test_files_are_read_in_every_way_that_labelling_reads_them(made: Made, tmp_path: Path) -> None:
    rows = [("Das Café war schön", "pos"), ("Ein öder Film, leider", "neg")] * 3
    texts = [text for text, _ in rows]

    def check(name: str, content: bytes) -> None:
        (tmp_path / name).write_bytes(content)
        found = load_split(made(["neg", "pos"], name), "train")
        assert found.texts == texts, name
        assert named(found) == [label for _, label in rows], name

    quoted = "text,label\n" + "".join(f'"{text}",{label}\n' for text, label in rows)
    check("data.csv", quoted.encode())
    check("latin.csv", quoted.encode("cp1252"))
    check("data.csv.gz", gzip.compress(quoted.encode()))
    check("semi.csv", quoted.replace('",', '";').replace("t,l", "t;l").encode())
    check("data.tsv", ("text\tlabel\n" + "".join(f"{t}\t{v}\n" for t, v in rows)).encode())
    lines = "".join(json.dumps({"text": t, "label": v}) + "\n" for t, v in rows)
    check("data.jsonl", lines.encode())
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"text": texts, "label": [v for _, v in rows]}), sink)
    check("data.parquet", sink.getvalue().to_pybytes())


def test_rows_that_labelling_would_set_aside_are_left_out_and_counted(
    made: Made, tmp_path: Path
) -> None:
    rows = ["good film,pos", " ,neg", ",pos", "bad film,neg", "too,many,fields", "bad film,neg"]
    (tmp_path / "data.csv").write_text("\n".join(["text,label", *rows]) + "\n")
    found = load_split(made(["neg", "pos"]), "train")
    assert found.texts == ["good film", "bad film", "bad film"]
    assert found.notes == (
        "data.csv: 2 rows left out, the first 2: the text is blank",
        "data.csv: 1 row left out, the first 5: 3 fields, the header has 2",
    )
    (tmp_path / "data.csv").write_text("text,label\n" + " ,neg\n ,pos\n" * 20)
    with pytest.raises(DataError, match=r"no rows to train or evaluate on \(40 rows left out"):
        load_split(made(["neg", "pos"]), "train")


def test_texts_with_contradicting_labels_are_counted(made: Made, tmp_path: Path) -> None:
    rows = "good,pos\nsame,neg\nsame,pos\nsame,neg\nbad,neg\n"
    (tmp_path / "data.csv").write_text("text,label\n" + rows)
    found = load_split(made(["neg", "pos", "meh"]), "train")
    assert len(found) == 5
    assert found.notes == (
        "data.csv: 3 rows hold 1 text that have contradicting labels",
        "data.csv: no row is labelled 'meh'",
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "the file is empty"),
        ("text,label\n", "no rows to train"),
        ("text,mood\na,pos\n", "no column 'label'; it has: text, mood"),
        ("words,label\na,pos\n", "no column 'text'"),
        ("text,label\na,pos\nb,pos\n", "all 2 rows to train on are labelled 'pos'"),
        ("text,label\na,pos\nb,pos\nc,neg\n", "only one is labelled 'neg'"),
        ("text,label\n" + "The  same,pos\nthe same,neg\n" * 9, "all 18 rows .* hold one text"),
    ],
)
def test_data_that_cannot_be_trained_on_is_refused_at_submit_in_one_line(
    content: str, message: str, made: Made, tmp_path: Path
) -> None:
    (tmp_path / "data.csv").write_text(content)
    with pytest.raises(DataError, match=message) as caught:
        check_data(None, [made(["neg", "pos"])], CONFIG)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("weight = inf", "weight"),
        ("frozen_weight = nan", "frozen_weight"),
        ("labels = ['a', ' ']", "a label is blank"),
        ("labels = ['a']", "there are 1; give 2 to 1,000"),
    ],
)
def test_a_task_file_with_a_value_that_means_nothing_is_refused(
    line: str, message: str, tmp_path: Path
) -> None:
    labels = "" if line.startswith("labels") else "labels = ['a', 'b']"
    (tmp_path / "t.toml").write_text(f"[mood]\ntrain = 'x.csv'\n{labels}\n{line}\n")
    with pytest.raises(SettingsError, match=message):
        read_task_file(tmp_path / "t.toml")


@pytest.mark.parametrize(
    ("line", "message"),
    [("keep = 'topic'", r'give a list, as in keep = \["topic"\]'), ("keep = [['topic']]", "keep")],
)
def test_keep_must_be_a_list_of_names(line: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "t.toml").write_text(line + "\n")
    with pytest.raises(SettingsError, match=message):
        read_task_file(tmp_path / "t.toml")


# --- the same data is the same job


@pytest.fixture
def spec(made: Made, tmp_path: Path) -> Callable[[], TrainSpec]:
    made(["neg", "pos"])

    def make() -> TrainSpec:
        request = TrainRequest("recommended", task_file=str(tmp_path / "tasks.toml"))
        return train_spec(request, "freeze-backbone", "m", settings())

    return make


def test_changed_rows_make_another_job_and_its_model_takes_no_others_place(
    spec: Callable[[], TrainSpec], tmp_path: Path
) -> None:
    path = tmp_path / "data.csv"
    path.write_text("text,label\n" + "good,pos\nbad,neg\n" * 5)
    before = spec()
    assert [file.path for file in before.data] == [str(path.resolve())]
    assert job_id(spec()) == job_id(before)
    place_of(before.output).write_json(
        MADE_BY, {"job": job_id(before), "files": {f.sha256: "data.csv" for f in before.data}}
    )
    refuse_other(before, job_id(before))  # its own
    path.write_text("text,label\n" + "good,neg\nbad,pos\n" * 5)
    after = spec()
    assert job_id(after) != job_id(before)
    with pytest.raises(JobError) as caught:
        refuse_other(after, job_id(after))
    said = str(caught.value)
    assert "model 'm' was trained on other data (data.csv); choose another --name" in said
    assert f"rm -r {before.output}" in said


def test_the_files_of_a_data_folder_are_fingerprinted(made_data: Path, tmp_path: Path) -> None:
    request = TrainRequest("recommended", data=str(made_data))
    files = checked_data(request, settings()).files
    assert {tuple(Path(f.path).parts[-2:]) for f in files} == {
        ("ag_news", "train.parquet"),
        ("ag_news", "test.parquet"),
        ("sst2", "train.parquet"),
        ("sst2", "validation.parquet"),
    }
    assert files[0].sha256 == described(Path(files[0].path)).sha256


def test_rows_held_out_of_a_file_that_changed_are_not_scored(made: Made, tmp_path: Path) -> None:
    path = tmp_path / "data.csv"
    path.write_text("text,label\na,pos\nb,neg\n")
    task = made(["neg", "pos"])
    known = {described(path).sha256: "data.csv"}
    assert len(split_loader(None, trained_on=known)(task, "train")) == 2
    path.write_text("text,label\nb,neg\na,pos\n")
    with pytest.raises(DataError, match="has changed since the model was trained"):
        split_loader(None, trained_on=known)(task, "train")
    path.unlink()
    with pytest.raises(DataError, match=r"no file .*data\.csv"):
        split_loader(None, trained_on=known)(task, "train")


# --- whole runs

OWN_FILES_ALONE = """
import sys
from pathlib import Path
from jobs.train.data import split_loader
from mtl_core.config import ModelConfig, train_config
from mtl_core.model.task_file import read_task_file
from mtl_core.training.run import TrainingRun
from mtl_core.training.score import evaluate_trained
from mtl_core.evaluation.answers import ModelAnswers
from mtl_core.model.network import load_model

folder, backbone = Path(sys.argv[1]), sys.argv[2]
config = train_config("recommended", scenario="freeze-backbone", epochs=1)
tasks = read_task_file(folder / "tasks.toml")
load = split_loader(None)
TrainingRun(config, ModelConfig(backbone=backbone, tasks=tasks), None, folder / "m", name="m",
            command="", load_split=load).run()
model = ModelAnswers(load_model(folder / "m").model)
evaluate_trained(model, None, config.as_dict(), load_split=load)
print("datasets" in sys.modules)
"""


def test_a_run_on_files_of_its_own_asks_no_hub_and_its_card_says_what_was_left_out(
    made: Made, tiny_backbone: Path, tmp_path: Path
) -> None:
    made(["neg", "pos"])
    rows = [f"film {n},{('neg', 'pos')[n % 2]}" for n in range(20)]
    (tmp_path / "data.csv").write_text("\n".join(["text,label", *rows, " ,neg"]) + "\n")
    command: list[Any] = [sys.executable, "-c", OWN_FILES_ALONE, tmp_path, tiny_backbone]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.stdout.strip() == "False", done.stderr
    card = (tmp_path / "m/README.md").read_text()
    assert "- data.csv: 1 row left out, the first 21: the text is blank" in card


@pytest.mark.slow
def test_a_model_of_labels_that_look_like_numbers_answers_by_their_names(
    made: Made, tiny_backbone: Path, mtl: Mtl, tmp_path: Path
) -> None:
    made(["true", "false"])
    words = {"false": "awful dull tedious clumsy", "true": "superb charming moving brilliant"}
    rows = [f"{words[v]} {n},{v}" for n in range(30) for v in words]
    (tmp_path / "data.csv").write_text("\n".join(["text,label", *rows]) + "\n")
    options = ("--scenario", "freeze-backbone", "--backbone", tiny_backbone, "--name", "m")
    ran = mtl("train", *options, "--tasks", "tasks.toml")
    assert ran.code == 0, ran.err
    (tmp_path / "in.txt").write_text("\n".join(words.values()) + "\n")
    ran = mtl("label", "in.txt", "-o", "out", "--model", "m")
    assert ran.code == 0, ran.err
    assert pq.read_table(tmp_path / "out")["mood"].to_pylist() == list(words)
    (tmp_path / "data.csv").write_text("\n".join(["text,label", *rows[:-2]]) + "\n")
    ran = mtl("train", *options, "--tasks", "tasks.toml")
    assert ran.code == 3
    assert "was trained on other data (data.csv)" in ran.err
