"""Typicality from a training run to the output's rows, and what every command makes of it."""

import json
from pathlib import Path

import pandas as pd
import pytest
from support import Mtl, made_texts

pytestmark = pytest.mark.slow


@pytest.fixture
def trained(mtl: Mtl, made_data: Path, tiny_backbone: Path) -> str:
    """The name of a model that was trained just now."""
    ran = mtl("train", "--scenario", "freeze-backbone", "--name", "m", "--data", made_data,
              "--backbone", tiny_backbone, "-q")  # fmt: skip
    assert ran.code == 0, ran.err
    return "m"


def test_rows_unlike_the_training_texts_are_told_counted_and_left_without_a_label(
    trained: str, mtl: Mtl, tmp_path: Path
) -> None:
    news, _ = made_texts("topic", 60, seed=9)
    texts = [*news, *(f"words that nobody knows {n}" for n in range(40))]
    frame = pd.DataFrame({"text": texts, "topic_typicality": range(100)})
    frame.to_csv(tmp_path / "in.csv", index=False)
    done = mtl("label", "in.csv", "-o", "out", "--model", trained, "--min-typicality", "0.1",
               "--text-column", "text")  # fmt: skip
    assert done.code == 0, done.err
    found = pd.read_parquet(tmp_path / "out").sort_values("row_id")
    assert found["input_topic_typicality"].astype(int).tolist() == list(range(100))
    for task in ("topic", "sentiment"):
        assert (found[task].isna() == (found[f"{task}_typicality"] < 0.1)).all()
    unlike = found["topic_typicality"] < 0.05
    assert unlike[found["row_id"] >= 60].mean() > 0.8
    assert unlike[found["row_id"] < 60].mean() < 0.3
    assert f"topic: {unlike.mean():.0%} of".replace("%", " %") in done.out
    manifest = json.loads((tmp_path / "out/_manifest.json").read_text())
    assert manifest["rows"]["untypical"]["topic"] == unlike.sum()
    assert manifest["min_typicality"] == 0.1
    status = json.loads(mtl("status", manifest["job"], "--json").out)
    assert status["untypical"] == manifest["rows"]["untypical"]
    assert mtl("verify", "out", "--input").code == 0
    assert mtl("collect", "out", "-o", "rows.csv").code == 0
    assert "topic_typicality" in (tmp_path / "rows.csv").read_text().splitlines()[0]
