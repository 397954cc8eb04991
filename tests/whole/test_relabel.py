"""`mtl relabel`: from stored embeddings where the encoder is the same, else from the texts."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from s3_server import S3Server
from safetensors.numpy import load_file, save_file
from support import Mtl, made_texts

from mtl_core.model.registry import SHIPPED_MODELS

pytestmark = pytest.mark.slow

ROWS, BAD = 60, 7


def other_heads(folder: Path, seed: int) -> Path:
    """A copy of the shipped model that differs in its heads' weights alone."""
    shutil.copytree(SHIPPED_MODELS / "default", folder)
    weights, draw = folder / "model.safetensors", np.random.default_rng(seed)
    tensors = load_file(weights)
    for name, value in tensors.items():
        if name.startswith("heads.") and name.endswith("weight"):
            tensors[name] = (value + draw.normal(0, value.std(), value.shape)).astype(np.float32)
    save_file(tensors, weights)
    return folder


@pytest.fixture
def new(tmp_path: Path) -> Path:
    """A model with the shipped one's encoder and other heads."""
    return other_heads(tmp_path / "new", seed=0)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Rows with a column of the user's own that takes a task's name, and a bad row."""
    texts = [*made_texts("topic", ROWS // 2, 1)[0], *made_texts("sentiment", ROWS // 2, 2)[0]]
    texts[BAD] = " "
    frame = pd.DataFrame({"id": [f"{n:03}" for n in range(ROWS)], "text": texts, "topic": "mine"})
    frame.to_csv(tmp_path / "in.csv", index=False)
    return tmp_path / "in.csv"


def label(mtl: Mtl, source: Path, output: str, *options: str | Path) -> None:
    ran = mtl("label", source, "-o", output, "-q", "--text-column", "text", *options)
    assert ran.code == 0, ran.err


def read(folder: Path) -> pd.DataFrame:
    return pd.read_parquet(folder).sort_values("row_id", ignore_index=True)


@pytest.mark.parametrize(("form", "least"), [("float32", 0.999), ("int8", 0.95)])
def test_with_the_same_encoder_no_text_is_encoded_and_labels_are_as_if_they_were(
    form: str, least: float, mtl: Mtl, source: Path, new: Path, tmp_path: Path
) -> None:
    label(mtl, source, "out", "--embedding", form)
    label(mtl, source, "direct", "--model", new, "--abstain-below", "0.9")
    ran = mtl(
        "relabel", "out", "--model", new, "-o", "out2", "--abstain-below", "0.9", "--top", "2"
    )
    assert ran.code == 0, ran.err
    assert f"the {form} embeddings of out are used; no text is encoded" in ran.err
    assert "1 rows of out/errors stay errors" in ran.err
    assert f"{ROWS - 1} of {ROWS} rows labelled, 1 in errors" in ran.out
    assert mtl("verify", "out2", "--input").code == 0
    old, made, direct = (read(tmp_path / name) for name in ("out", "out2", "direct"))
    for column in ("row_id", "id", "text", "input_topic", "truncated"):
        assert made[column].tolist() == old[column].tolist()
    assert (np.stack(made["embedding"]) == np.stack(old["embedding"])).all()
    assert list(made.columns.drop(["topic_top", "sentiment_top"])) == [
        name
        for name in old
        if not name.endswith("_typicality")  # which other weights do not have
    ]
    if form == "int8":
        assert (made["embedding_scale"] == old["embedding_scale"]).all()
    for task in ("topic", "sentiment"):
        same = made[task].astype(object).fillna("") == direct[task].astype(object).fillna("")
        assert same.mean() >= least
        assert np.abs(made[f"{task}_score"] - direct[f"{task}_score"]).max() < 0.05
    assert (made["topic"].astype(object) != old["topic"].astype(object)).any()
    errors = [
        pd.read_parquet(tmp_path / each / "errors/_rows-input.parquet") for each in ("out", "out2")
    ]
    assert errors[0].equals(errors[1])
    manifest = json.loads((tmp_path / "out2/_manifest.json").read_text())
    assert manifest["engines"] == [{"engine": "stored embeddings", "precision": form}]
    assert (manifest["tokens"], manifest["embedding"]) == (0, form)
    assert manifest["relabels"] == str(tmp_path / "out")
    # an output made so can be labelled anew like any other, and the same command finds it done
    again = mtl("relabel", "out2", "--model", "default", "-o", "out3")
    assert "no text is encoded" in again.err, again.err
    assert mtl("verify", "out3", "--input").code == 0
    back = read(tmp_path / "out3")
    for task in ("topic", "sentiment"):
        assert (back[task].astype(object) == old[task].astype(object)).mean() >= least
        far = np.abs(back[f"{task}_typicality"] - old[f"{task}_typicality"])
        assert far.max() < (1e-6 if form == "float32" else 0.1)
    assert "was done before" in mtl("relabel", "out2", "--model", "default", "-o", "out3").err


@pytest.mark.parametrize(
    ("embedding", "by", "anew", "reason"),
    [
        ("none", "default", "new", "it holds no embeddings"),
        ("binary", "default", "new", "it holds the signs of the embeddings only"),
        ("float16", "default", "fast", "model 'fast' has another encoder than 'default', which"),
        ("float32", "gone", "default", "which made it, is not here any more"),
    ],
)
def test_else_the_texts_are_encoded_again_and_the_reason_is_said(
    embedding: str, by: str, anew: str, reason: str,
    mtl: Mtl, source: Path, new: Path, tmp_path: Path,
) -> None:  # fmt: skip
    if by == "gone":
        other_heads(tmp_path / "gone", seed=1)
    named = f"./{by}" if by == "gone" else by
    label(mtl, source, "out", "--embedding", embedding, "--model", named)
    if by == "gone":
        shutil.rmtree(tmp_path / "gone")
    model = str(new) if anew == "new" else anew
    ran = mtl("relabel", "out", "--model", model, "-o", "out2")
    assert ran.code == 0, ran.err
    assert "encoding the texts of out again: " in ran.err
    assert reason in ran.err
    assert mtl("verify", "out2", "--input").code == 0
    label(mtl, source, "direct", "--model", model, "--embedding", embedding)
    made, direct = read(tmp_path / "out2"), read(tmp_path / "direct")
    assert list(made.columns) == list(direct.columns)
    assert made["topic"].tolist() == direct["topic"].tolist()
    manifest = json.loads((tmp_path / "out2/_manifest.json").read_text())
    assert manifest["embedding"] == embedding
    assert manifest["tokens"] > 0


def test_an_output_in_a_store_is_labelled_anew_into_the_store(
    s3: S3Server, mtl: Mtl, source: Path, new: Path
) -> None:
    out, out2 = f"{s3.address}/out", f"{s3.address}/out2"
    label(mtl, source, out)
    ran = mtl("relabel", out, "--model", new, "-o", out2)
    assert ran.code == 0, ran.err
    assert "no text is encoded" in ran.err
    assert "1 in errors" in ran.out
    assert mtl("verify", out2, "--input").code == 0


def test_what_cannot_be_labelled_anew_is_told_in_one_line(
    mtl: Mtl, source: Path, new: Path, tmp_path: Path
) -> None:
    label(mtl, source, "out")
    label(mtl, source, "other", "--limit", "5")
    (tmp_path / "empty").mkdir()
    for words, code, said in (
        (("empty", "--model", new, "-o", "out2"), 3, "empty holds no finished output"),
        (("nowhere", "--model", new, "-o", "out2"), 3, "nowhere: no such folder, and no job's id"),
        (("out", "--model", "defalt", "-o", "out2"), 2, "did you mean 'default'"),
        (("out", "--model", new, "-o", "out"), 2, "out cannot be labelled into itself"),
        (("out", "--model", new, "-o", "other"), 2, "other holds the output of another job"),
        (("out", "--model", new, "-o", "in.csv"), 2, "in.csv is a file"),
    ):
        ran = mtl("relabel", *words, "-q")
        assert (ran.code, ran.err.count("\n")) == (code, 1), ran.err
        assert said in ran.err
    assert not (tmp_path / "out2").exists()
    (part,) = (tmp_path / "out").glob("part-*")
    part.write_bytes(part.read_bytes()[:-1] + b"x")
    ran = mtl("relabel", "out", "--model", new, "-o", "out2")
    assert (ran.code, ran.err.count("\n")) == (2, 1), ran.err
    assert "has changed since its job wrote it" in ran.err
    part.unlink()
    ran = mtl("relabel", "out", "--model", new, "-o", "out2")
    assert (ran.code, ran.err.count("\n")) == (2, 1), ran.err
    assert f"{part.name} is missing" in ran.err
