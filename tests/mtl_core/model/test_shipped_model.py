"""The shipped model on the official splits."""

import json
from pathlib import Path

import pytest
from support import Mtl

pytestmark = pytest.mark.slow


def test_the_shipped_model_reaches_its_promised_accuracy(mtl: Mtl, shared_data: Path) -> None:
    done = mtl("evaluate", "default", "--data", shared_data, "--json", timeout=300)
    assert done.code == 0, done.err
    found = json.loads(done.out)
    figures = found["official"]
    assert figures["topic"]["rows"] == 7600
    assert figures["topic"]["accuracy"] >= 0.935
    assert figures["sentiment"]["rows"] == 872
    assert figures["sentiment"]["accuracy"] >= 0.895
    assert found["stsb"]["pairs"] == 1500
    assert found["stsb"]["spearman"] >= 0.855  # similarity search still works
    for task in ("topic", "sentiment"):
        ece = found["calibration"][task]
        assert ece["ece_after"] <= max(ece["ece_before"], 0.03)
