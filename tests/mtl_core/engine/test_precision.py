"""What a lower precision changes: nearly no label, nearly no angle; and where it is refused."""

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from support import REPOSITORY, Mtl, Workers

from jobs.output.layout import read_manifest
from mtl_core.engine.base import Engine, Labelled
from mtl_core.engine.choose import EngineName
from mtl_core.engine.load import load_engine
from mtl_core.errors import ModelError
from mtl_core.model.registry import SHIPPED_MODELS
from mtl_core.storage.folder import Folder

DEFAULT = SHIPPED_MODELS / "default"
EXAMPLES = REPOSITORY / "examples" / "sentences.csv"
# A head's answer to the other kind of text (the topic of a film review) is a guess that anything
# tips over, so each head is asked about its own kind.
KINDS = {"topic": "headline", "sentiment": "review"}

Load = Callable[..., Engine]


@pytest.fixture(scope="module")
def load(tmp_path_factory: pytest.TempPathFactory) -> Load:
    folder = tmp_path_factory.mktemp("engines")

    def of(name: EngineName, precision: str, calibration: tuple[str, ...] = ()) -> Engine:
        return load_engine(DEFAULT, name, precision, cache=folder, calibration=calibration)

    return of


def examples() -> tuple[list[str], np.ndarray]:
    with EXAMPLES.open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    return [row["text"] for row in rows], np.array([row["kind"] for row in rows])


def answer(engine: Engine, texts: list[str]) -> Labelled:
    return engine.label(texts, lambda done: None)


@pytest.mark.parametrize(
    ("name", "precision", "cosine", "agreement"),
    [
        ("openvino", "float32", 0.99999, 1.0),
        ("torch", "bfloat16", 0.999, 0.99),
        ("openvino", "bfloat16", 0.999, 0.99),
        ("openvino", "int8", 0.99, 0.97),
    ],
)
def test_each_precision_stays_near_exact_numbers(
    load: Load, name: EngineName, precision: str, cosine: float, agreement: float
) -> None:
    texts, kinds = examples()
    exact = answer(load("torch", "float32"), texts)
    near = answer(load(name, precision, tuple(texts)), texts)
    assert (exact.embeddings * near.embeddings).sum(axis=1).mean() > cosine
    for one, other in zip(exact.labels, near.labels, strict=True):
        own = kinds == KINDS[one.task.name]
        assert own.sum() > 90
        assert (one.classes[own] == other.classes[own]).mean() >= agreement


@pytest.mark.slow
def test_int8_keeps_labels_and_accuracy_on_the_official_splits(
    load: Load, shared_data: Path
) -> None:
    """A guard on 600 rows of each; the figures for whole splits are in docs/performance.md."""
    files = (("ag_news/test.parquet", "text"), ("sst2/validation.parquet", "sentence"))
    tables = [pq.read_table(shared_data / file).slice(0, 600) for file, _ in files]
    texts = [table[column].to_pylist() for table, (_, column) in zip(tables, files, strict=True)]
    both = [*texts[0], *texts[1]]
    exact = answer(load("openvino", "float32"), both)
    near = answer(load("openvino", "int8", tuple(both[::4])), both)
    for place, table in enumerate(tables):
        rows = slice(600 * place, 600 * (place + 1))
        before, after = exact.labels[place].classes[rows], near.labels[place].classes[rows]
        labels = table["label"].to_numpy()
        assert (before == after).mean() >= 0.985
        assert (after == labels).mean() >= (before == labels).mean() - 0.01


def test_int8_is_refused_without_texts_to_calibrate_on_and_on_torch(load: Load) -> None:
    with pytest.raises(ModelError, match="must be calibrated on texts"):
        load("openvino", "int8")
    with pytest.raises(ModelError, match="MTL_ENGINE=openvino"):
        load("torch", "int8", ("a text",))


@pytest.mark.slow
def test_a_job_in_int8_says_so_in_its_manifest(mtl: Mtl, workers: Workers, tmp_path: Path) -> None:
    workers.start()
    arguments = ("label", EXAMPLES, "-o", tmp_path / "out", "--precision", "int8")
    done = mtl(*arguments, MTL_REDIS_URL=workers.url)
    assert done.code == 0, done.err
    manifest = read_manifest(Folder(tmp_path / "out"))
    assert [(e.engine, e.precision) for e in manifest.engines] == [("openvino", "int8")]
    assert manifest.rows.labelled == len(examples()[0])


@pytest.mark.slow
def test_a_job_in_int8_on_a_worker_without_it_fails_with_one_line(
    mtl: Mtl, workers: Workers, tmp_path: Path
) -> None:
    workers.start(MTL_ENGINE="torch")
    arguments = ("label", EXAMPLES, "-o", tmp_path / "out", "--precision", "int8", "-q")
    done = mtl(*arguments, MTL_REDIS_URL=workers.url)
    assert done.code == 3
    assert "set MTL_ENGINE=openvino" in done.err
    assert len(done.err.strip().splitlines()) == 1
