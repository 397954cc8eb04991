"""The nearest rows: what is found by a scan, among which rows, and what the command says."""

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from jobs.cli.group import main
from jobs.output.layout import read_manifest
from jobs.output.rows import batches, condition_of
from jobs.vectors.search import embed_texts, like, open_output, search
from mtl_core.config import Embedding
from mtl_core.errors import InputError, ModelError
from mtl_core.files import file_sha256
from mtl_core.model.registry import SHIPPED_MODELS
from mtl_core.storage.folder import Folder

from .conftest import ROWS, SIZE, Made, vectors, write_output


def asked(*arguments: str | Path) -> tuple[int, str]:
    done = CliRunner().invoke(main, ["search", *map(str, arguments)])
    return done.exit_code, done.output


@pytest.mark.parametrize("hold", [True, False])
@pytest.mark.parametrize("form", ["float32", "float16", "int8"])
def test_a_scan_finds_the_rows_of_the_greatest_cosines(
    made: Made, form: Embedding, hold: bool
) -> None:
    queries = vectors()[[7, 900]]
    exact = vectors() @ queries.T
    with open_output(str(made("out", form)), hold=hold) as out:
        found = search([out], queries, 5)
    for column, hits in enumerate(found):
        expected = np.sort(exact[:, column])[::-1][:5]
        assert [hit.cosine for hit in hits] == pytest.approx(expected, abs=0.01)
        assert [exact[hit.values["row_id"], column] for hit in hits] == pytest.approx(
            expected, abs=0.01
        )


def test_of_binary_embeddings_the_cosine_with_their_signs_counts(made: Made) -> None:
    signs = np.where(vectors() > 0, 1, -1) / np.sqrt(SIZE)
    with open_output(str(made("out", "binary"))) as out:
        hits = search([out], vectors()[[7]], 5)[0]
    assert [hit.cosine for hit in hits] == pytest.approx(
        np.sort(signs @ vectors()[7])[::-1][:5], abs=1e-5
    )


def test_rows_come_with_labels_scores_and_columns_of_ones_own(made: Made) -> None:
    with open_output(str(made("out", "float32"))) as out:
        hit = search([out], vectors()[[900]], 1)[0][0]
    assert hit.cosine == pytest.approx(1)
    assert hit.values == {
        "row_id": 900, "text": "text 900", "day": 1, "topic": "Sports",
        "topic_score": pytest.approx(0.8), "truncated": False,
    }  # fmt: skip


def test_a_condition_is_met_by_every_row_found(made: Made) -> None:
    where = "topic = 'World' and topic_score > 0.9"
    fit = [row for row in range(ROWS) if row % 3 and 0.5 + row / (2 * ROWS) > 0.9]
    best = np.sort(vectors()[fit] @ vectors()[7])[::-1][:4]
    with open_output(str(made("out", "float32"))) as out:
        hits = search([out], vectors()[[7]], 4, where)[0]
        none = search([out], vectors()[[7]], 4, "day = 7")[0]
    assert {hit.values["row_id"] for hit in hits} <= set(fit)
    assert [hit.cosine for hit in hits] == pytest.approx(best, abs=1e-5)
    assert none == []


def test_row_groups_that_cannot_meet_a_condition_are_not_read(
    made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = Folder(made("out", "float32"))
    manifest = read_manifest(output)
    read: list[object] = []
    plain = pq.ParquetFile.iter_batches

    def noted(self: pq.ParquetFile, *arguments: object, **options: object) -> object:
        read.append(options["row_groups"])
        return plain(self, *arguments, **options)

    monkeypatch.setattr(pq.ParquetFile, "iter_batches", noted)
    found = batches(output, manifest, ["row_id"], condition_of(output, manifest, "day = 2"))
    assert sum(len(batch) for batch in found) == ROWS // 3
    assert read == [[], [], [0]]


def test_several_outputs_are_searched_as_one(made: Made) -> None:
    first, second = made("a", "float32"), made("b", "float16")
    with open_output(str(first)) as one, open_output(str(second)) as two:
        hits = search([one, two], vectors()[[7]], 4)[0]
    assert [hit.values["row_id"] for hit in hits[:2]] == [7, 7]
    assert {hit.output for hit in hits[:2]} == {str(first), str(second)}


def test_like_searches_by_a_row_and_leaves_that_row_out(made: Made) -> None:
    out = made("out", "float32")
    code, said = asked(out, "--like", "900", "-k", "3", "--json")
    hits = json.loads(said)[0]["hits"]
    assert code == 0, said
    expected = np.argsort(-(vectors() @ vectors()[900]))[1:4]
    assert [hit["row"]["row_id"] for hit in hits] == expected.tolist()
    code, said = asked(out, "--like", str(ROWS))
    assert (code, f"row {ROWS} is not among the labelled rows" in said) == (2, True)
    with open_output(str(out)) as opened:
        assert like(opened, 900)[0] == pytest.approx(vectors()[900], abs=1e-6)


def test_the_screen_shows_cosine_label_own_columns_and_text(made: Made) -> None:
    code, said = asked(made("out", "float32"), "--like", "900", "-k", "1")
    assert code == 0, said
    head, row = said.splitlines()
    assert head.split() == ["cosine", "row_id", "topic", "day", "text"]
    best = int(np.argsort(-(vectors() @ vectors()[900]))[1])
    assert row.split()[1] == str(best)
    assert row.rstrip().endswith(f"text {best}")


def test_what_cannot_be_searched_is_said_in_a_line(made: Made, tmp_path: Path) -> None:
    out = made("out", "float32")
    for arguments, words in (
        ((out,), "give an output and a text"),
        ((out, out), "the text to search for comes last"),
        ((out, " "), "text to search for is empty"),
        ((out, "--file", tmp_path / "no"), "cannot be read (No such file"),
        ((out, "--like", "1", "--file", "x"), "not both"),
        ((out, "--like", "1", "--where", "dya = 1"), "no column 'dya'; did you mean 'day'"),
        ((out, "--like", "1", "--where", "topic > 1"), "does not fit the columns"),
        ((out, "text"), "which made the embeddings, is not here any more"),
        ((write_output(tmp_path / "none", "none", vectors()), "text"), "holds no embeddings"),
        ((tmp_path / "nothing", "text"), "no such folder"),
    ):
        code, said = asked(*arguments)
        assert code in (2, 3), said
        assert words in said
        assert "Traceback" not in said
    (out / "part-00001-a1.parquet").unlink()
    code, said = asked(out, "--like", "1")
    assert (code, "part-00001-a1.parquet is missing" in said) == (2, True)


SENTENCES = ["The team won the cup final.", "Shares fell on Wall Street.", "A dull, long film."]


@pytest.fixture
def labelled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An output that the shipped model made, as its manifest says; of three sentences."""
    from mtl_core.model.network import load_model

    monkeypatch.setenv("MTL_ENGINE", "torch")  # a graph would have to be exported first
    model = SHIPPED_MODELS / "fast"
    found = load_model(model).model.encode(SENTENCES)
    sha256 = file_sha256(model / "model.safetensors")
    return write_output(tmp_path / "labelled", "float32", found, name="gone", sha256=sha256)


def test_a_text_is_embedded_by_the_model_that_made_the_output(
    labelled: Path, tmp_path: Path
) -> None:
    (tmp_path / "queries.txt").write_text("a boring movie\n\nthe match was won\nstocks went down\n")
    code, said = asked(labelled, "--file", tmp_path / "queries.txt", "-k", "1", "--json")
    assert code == 0, said
    assert [(each["query"], each["hits"][0]["row"]["row_id"]) for each in json.loads(said)] == [
        ("a boring movie", 2), ("the match was won", 0), ("stocks went down", 1),
    ]  # fmt: skip


def test_outputs_of_other_encoders_are_not_searched_together(
    labelled: Path, tmp_path: Path
) -> None:
    sha256 = file_sha256(SHIPPED_MODELS / "default" / "model.safetensors")
    found = vectors()[:3]
    other = write_output(tmp_path / "other", "float32", found, name="default", sha256=sha256)
    with (
        open_output(str(labelled)) as one,
        open_output(str(other)) as two,
        pytest.raises(InputError, match="embeddings of another encoder than"),
    ):
        embed_texts([one, two], ["text"])


def test_a_model_that_is_gone_is_named(made: Made) -> None:
    with (
        open_output(str(made("out", "float32"))) as out,
        pytest.raises(ModelError, match=r"model 'default' \(0…\), which made .* --like ROW_ID"),
    ):
        embed_texts([out], ["text"])
