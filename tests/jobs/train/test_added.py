"""Rows that training leaves out as copies of evaluation rows, and further rows given by --add."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from support import Mtl, made_texts

from jobs.train.data import described, load_added
from mtl_core.config import train_config
from mtl_core.data.draws import CHECKED_SHARE
from mtl_core.data.splits import load_split
from mtl_core.errors import DataError
from mtl_core.tasks import SENTIMENT, TOPIC
from mtl_core.training.preparation import training_split

CONFIG = train_config("recommended")
COPY = "a very long sentence of more than eight words that stands in the evaluation split"


@pytest.fixture
def leaking(made_data: Path, tmp_path: Path) -> Path:
    """A data folder whose training split holds two copies of one evaluation text."""
    for split in ("train", "validation"):
        table = pq.read_table(made_data / f"sst2/{split}.parquet")
        copies = [COPY.upper(), f"{COPY}, he said"] if split == "train" else [COPY]
        rows = {"sentence": table["sentence"].to_pylist(), "label": table["label"].to_pylist()}
        rows = {"sentence": rows["sentence"] + copies, "label": rows["label"] + [1] * len(copies)}
        (tmp_path / "sst2").mkdir(exist_ok=True)
        pq.write_table(table.from_pydict(rows), tmp_path / f"sst2/{split}.parquet")
    return tmp_path


def texts_of(data: Path, **changes: object) -> tuple[list[str], tuple[str, ...]]:
    def load(task: object, split: str) -> object:
        return load_split(SENTIMENT, split, data)

    train, held_out = training_split(SENTIMENT, train_config("recommended", **changes), load)  # type: ignore[arg-type]
    return [text.lower() for text in train.texts + held_out.texts], train.notes


def test_copies_of_evaluation_rows_are_left_out_and_counted(leaking: Path) -> None:
    texts, notes = texts_of(leaking)
    assert not [text for text in texts if COPY in text]
    said = [note for note in notes if "copies of evaluation rows" in note]
    assert len(said) == 1
    assert said[0].startswith("sst2/train: ")


def test_copies_are_trained_on_if_asked_for(leaking: Path) -> None:
    texts, notes = texts_of(leaking, keep_overlap=True)
    assert len([text for text in texts if COPY in text]) == 2
    assert not [note for note in notes if "copies" in note]


def test_added_rows_are_those_with_a_label_in_the_tasks_column(tmp_path: Path) -> None:
    path = tmp_path / "more.csv"
    path.write_text("text,sentiment,topic\na fine film,Positive,\na dull one,0,\nno idea,,Sports\n")
    path.write_text(path.read_text().replace("0,", "Negative,"))
    file = described(path)
    sentiment = load_added(SENTIMENT, [file])
    assert sentiment is not None
    assert (sentiment.texts, sentiment.labels.tolist()) == (["a fine film", "a dull one"], [1, 0])
    topic = load_added(TOPIC, [file])
    assert topic is not None
    assert (topic.texts, topic.labels.tolist()) == (["no idea"], [1])


def test_a_label_of_an_added_row_that_is_none_is_named_with_its_row(tmp_path: Path) -> None:
    path = tmp_path / "more.csv"
    path.write_text("text,sentiment\na fine film,Positive\nneither,\na dull one,Negativ\n")
    with pytest.raises(DataError, match=r"more\.csv:3.*did you mean 'Negative'"):
        load_added(SENTIMENT, [described(path)])


def test_added_rows_are_never_held_out_and_copies_of_held_out_rows_are_left_out(
    made_data: Path, tmp_path: Path
) -> None:
    def load(task: object, split: str) -> object:
        return load_split(SENTIMENT, split, made_data)

    _, held_out = training_split(SENTIMENT, CONFIG, load)  # type: ignore[arg-type]
    path = tmp_path / "more.csv"
    new = [f"a new and long enough text of number {n} here" for n in range(30)]
    lines = [f"{text},Positive" for text in [*new, held_out.texts[0]]]
    path.write_text("\n".join(["text,sentiment", *lines]) + "\n")
    added = load_added(SENTIMENT, [described(path)])
    train, again = training_split(SENTIMENT, CONFIG, load, added)  # type: ignore[arg-type]
    assert again.texts == held_out.texts
    assert set(new) <= set(train.texts)
    assert held_out.texts[0] not in train.texts
    assert any("1 row left out as copies of held-out rows" in note for note in train.notes)


def test_rows_checked_by_hand_count_several_times_whatever_sample_is_drawn(
    made_data: Path, tmp_path: Path
) -> None:
    def load(task: object, split: str) -> object:
        return load_split(SENTIMENT, split, made_data)

    path = tmp_path / "reviewed.csv"
    path.write_text(
        "row_id,sentiment,text,part\n"
        "7,Positive,a new and long enough text that was checked,random\n"
        "9,?,a new and long enough text that nobody could tell,random\n"
        "11,,a new and long enough text that was left out,unsure\n"
    )
    added = load_added(SENTIMENT, [described(path)])
    config = train_config("recommended", max_rows_per_task=60)
    train, _ = training_split(SENTIMENT, config, load, added)  # type: ignore[arg-type]
    checked = [text for text in train.texts if text.startswith("a new and long")]
    assert len(train) - len(checked) <= 60
    assert set(checked) == {"a new and long enough text that was checked"}
    times = round(CHECKED_SHARE * (len(train) - len(checked)))
    assert len(checked) == times > 1
    assert f"reviewed.csv: each of 1 checked rows counts as {times}" in train.notes


def test_an_outputs_own_labels_were_checked_by_nobody(tmp_path: Path) -> None:
    path = tmp_path / "collected.csv"
    path.write_text("row_id,text,sentiment,sentiment_score\n7,a film,Positive,0.9\n")
    added = load_added(SENTIMENT, [described(path)])
    assert added is not None
    assert added.checked is None


@pytest.mark.slow
def test_a_run_says_what_it_left_out_and_trains_on_added_rows(
    mtl: Mtl, made_data: Path, tiny_backbone: Path, tmp_path: Path
) -> None:
    texts, labels = made_texts("sentiment", 50, seed=99)
    rows = [
        f"{text} extra {n},{SENTIMENT.labels[y]}"
        for n, (text, y) in enumerate(zip(texts, labels, strict=True))
    ]
    path = tmp_path / "more.csv"
    path.write_text("\n".join(["text,sentiment", *rows]) + "\n")
    models = {"MTL_MODELS_DIR": str(tmp_path / "models")}
    arguments = (
        "--scenario",
        "full",
        "--epochs",
        "1",
        "--data",
        made_data,
        "--backbone",
        tiny_backbone,
        "--set",
        "batch_rows=16",
    )
    for name, more in (("plain", ()), ("more", ("--add", path))):
        done = mtl("train", "--name", name, *arguments, *more, **models)
        assert done.code == 0, done.err
    rows_of = {}
    for name in ("plain", "more"):
        config = json.loads((tmp_path / "models" / name / "config.json").read_text())
        rows_of[name] = config["training"]["rows"]
    assert rows_of["more"]["sentiment"] == rows_of["plain"]["sentiment"] + 50
    assert rows_of["more"]["topic"] == rows_of["plain"]["topic"]
    card = (tmp_path / "models/more/README.md").read_text()
    assert "--add more.csv" in card
    assert "more.csv: 50 rows added for sentiment" in card
    assert "| batch_rows | 16 |" in card
    assert mtl("train", "--name", "more", *arguments, "--add", path, **models).code == 0
    missing = mtl("train", "--name", "other", *arguments, "--add", tmp_path / "none.csv", **models)
    assert missing.code != 0
    assert "none.csv; --add names files of labelled rows" in missing.err
    path.write_text("text,Sentiment\na fine film,Positive\n")
    other = mtl("train", "--name", "other", *arguments, "--add", path, **models)
    assert other.code == missing.code
    assert (
        "a column named after their task (topic, sentiment); it has: text, Sentiment" in other.err
    )
