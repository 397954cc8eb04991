"""Typicality in a label job's request, spec and rows."""

import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from specs import lines, spec_for

from jobs.cli.shared.unlike import unlike_lines
from jobs.label.request import LabelRequest, prepare_label
from jobs.output.manifest import sum_counts
from jobs.settings import settings
from jobs.specs import job_id
from mtl_core.engine.base import Labelled, TaskLabels
from mtl_core.errors import ModelError
from mtl_core.files import file_sha256
from mtl_core.model.config import TYPICALITY, WEIGHTS
from mtl_core.model.registry import SHIPPED_MODELS
from mtl_core.model.typicality import Typicality, write_typicality
from mtl_core.tasks import Task
from worker.columns import with_labels
from worker.engines import typicality_of

AT_ORIGIN = Typicality(
    np.zeros((1, 4), np.float32), np.eye(4, dtype=np.float32), np.arange(99, dtype=np.float32)
)
"""Compares a row's squared length with 0 to 98."""


@pytest.fixture
def earlier_model(tmp_path: Path) -> Path:
    """A model as earlier versions trained it: without statistics."""
    folder = tmp_path / "model"
    shutil.copytree(SHIPPED_MODELS / "default", folder, ignore=shutil.ignore_patterns(TYPICALITY))
    return folder


def rows_of(tmp_path: Path, statistics: dict[str, Typicality], **changes: object) -> pa.Table:
    """Four rows as a worker writes them, at squared distances 0, 49, 97 and 400 from the origin."""
    embeddings = np.zeros((4, 4), np.float32)
    embeddings[:, 0] = np.sqrt([0, 49, 97, 400])
    scores = np.array([[0.9, 0.1], [0.6, 0.4], [0.9, 0.1], [0.6, 0.4]], np.float32)
    labels = (TaskLabels(Task("topic", ("a", "b")), scores),)
    labelled = Labelled(labels, embeddings, np.zeros(4, bool), np.full(4, 3))
    spec = spec_for(lines(tmp_path / "in.txt", "wxyz"), tmp_path / "out", **changes)
    return with_labels(pa.table({"row_id": range(4)}), labelled, spec, statistics)


def test_each_task_has_a_column_of_typicality_behind_its_score(tmp_path: Path) -> None:
    table = rows_of(tmp_path, {"topic": AT_ORIGIN})
    assert table.column_names[1:4] == ["topic", "topic_score", "topic_typicality"]
    assert table.schema.field("topic_typicality") == pa.field(
        "topic_typicality", pa.float32(), nullable=False
    )
    found = table["topic_typicality"].to_numpy()
    np.testing.assert_allclose(found, [1, 0.51, 0.03, 0.01])
    assert table["topic"].null_count == 0


def test_a_model_without_statistics_gives_no_such_column(tmp_path: Path) -> None:
    assert "topic_typicality" not in rows_of(tmp_path, {}).column_names


@pytest.mark.parametrize(
    ("options", "labels"),
    [
        ({"min_typicality": 0.05}, ["a", "a", None, None]),
        ({"thresholds": (("topic", 0.8),)}, ["a", None, "a", None]),
        ({"min_typicality": 0.02, "thresholds": (("topic", 0.8),)}, ["a", None, "a", None]),
        ({"min_typicality": 0.05, "thresholds": (("topic", 0.8),)}, ["a", None, None, None]),
    ],
)
def test_labels_are_empty_where_a_row_is_not_typical_or_not_sure_enough(
    tmp_path: Path, options: dict[str, object], labels: list[str | None]
) -> None:
    table = rows_of(tmp_path, {"topic": AT_ORIGIN}, **options)
    assert table["topic"].to_pylist() == labels
    assert table["topic_score"].null_count == table["topic_typicality"].null_count == 0


def test_a_job_that_knows_no_typicality_keeps_its_id(tmp_path: Path) -> None:
    spec = spec_for(lines(tmp_path / "in.txt", "x"), tmp_path / "out")
    for change in ({"typicality_sha256": "1"}, {"min_typicality": 0.1}):
        assert job_id(spec.model_copy(update=change)) != job_id(spec)
    earlier = spec.model_dump(exclude={"typicality_sha256", "min_typicality"})
    assert job_id(type(spec).model_validate(earlier)) == job_id(spec)


def test_a_spec_names_the_statistics_of_the_model(earlier_model: Path, tmp_path: Path) -> None:
    request = LabelRequest(
        (str(lines(tmp_path / "in.txt", ["a text"])),), str(tmp_path / "out"), str(earlier_model)
    )
    assert prepare_label(request, settings()).spec.typicality_sha256 == ""
    write_typicality(earlier_model, {"topic": AT_ORIGIN}, file_sha256(earlier_model / WEIGHTS))
    sha256 = file_sha256(earlier_model / TYPICALITY)
    assert prepare_label(request, settings()).spec.typicality_sha256 == sha256


def test_a_worker_with_other_statistics_than_the_job_knows_says_so(
    earlier_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MTL_WORKER_NAME", "w")
    spec = spec_for(
        lines(tmp_path / "in.txt", "x"), tmp_path / "out", typicality_sha256="0", model_sha256="1"
    )
    with pytest.raises(ModelError, match="statistics of typicality with sha256 none"):
        typicality_of(spec, earlier_model)
    write_typicality(earlier_model, {"topic": AT_ORIGIN}, "1")
    sha256 = file_sha256(earlier_model / TYPICALITY)
    with pytest.raises(ModelError, match=f"{sha256[:12]}.*, the job was submitted with 0"):
        typicality_of(spec, earlier_model)
    known = spec.model_copy(update={"typicality_sha256": sha256})
    assert set(typicality_of(known, earlier_model)) == {"topic"}
    assert typicality_of(spec.model_copy(update={"typicality_sha256": ""}), earlier_model) == {}


def test_a_least_typicality_is_refused_for_a_model_without_statistics(
    earlier_model: Path, tmp_path: Path
) -> None:
    source = lines(tmp_path / "in.txt", ["a text"])
    request = LabelRequest(
        (str(source),), str(tmp_path / "out"), str(earlier_model), min_typicality=0.1
    )
    with pytest.raises(ModelError, match="has no statistics of typicality, which --min-typ"):
        prepare_label(request, settings())


def test_it_is_said_where_more_than_a_tenth_of_the_rows_do_not_fit() -> None:
    untypical = sum_counts([{"topic": 400, "mood": 60}, {"topic": 220, "mood": 40}, {}])
    assert unlike_lines(1000, untypical) == [
        "topic: 62 % of the rows are unlike the texts it was trained on "
        "(topic_typicality below 0.05)"
    ]
    assert unlike_lines(0, {"topic": 0}) == unlike_lines(1000, {}) == []
