"""Near-equal texts: which rows are grouped, what contradicts, and that it does not blow up."""

import json
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from copied import directions, moved, output_with

from jobs.cli.group import main
from jobs.vectors.copies.against import find_matches
from jobs.vectors.copies.duplicates import find_duplicates
from jobs.vectors.copies.ends import alike_at_an_end, end_keys
from jobs.vectors.copies.links import components
from mtl_core.errors import InputError
from mtl_core.storage.folder import Folder

NO_EDGES = np.zeros((2, 0), np.int64)


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """Rows 0 to 99; 100 to 109 are near copies of the first ten, 110 to 114 equal to 0."""
    base = directions(100)
    vectors = np.concatenate([base, moved(base[:10], 0.97), base[[0] * 5]])
    own = ["same"] * 115
    own[103] = "other"
    return output_with(tmp_path / "out", vectors, own=own, topics=[0] * 114 + [1])


def test_near_rows_are_grouped_and_labels_that_contradict_come_first(copied: Path) -> None:
    found = find_duplicates(Folder(copied), by="own")
    assert (found.rows, len(found.starts), found.sizes.max()) == (115, 10, 7)
    assert found.later.tolist() == list(range(100, 115))
    assert [group.first_row_id for group in found.shown[:2]] == [3, 0]
    assert [group.contradicts for group in found.shown[:3]] == [("own",), ("topic",), ()]
    cosines = dict(zip(found.row_ids.tolist(), found.cosines.tolist(), strict=True))
    assert cosines[0] == 1
    assert cosines[100] == pytest.approx(0.97, abs=0.001)


def test_a_stricter_threshold_finds_equal_rows_alone(copied: Path) -> None:
    assert find_duplicates(Folder(copied), 0.99).row_ids.tolist() == [0, *range(110, 115)]


@pytest.mark.parametrize("form", ["float16", "int8", "binary"])
def test_every_form_of_the_embedding_finds_the_copies(tmp_path: Path, form: str) -> None:
    base = directions(300, 256)
    vectors = np.concatenate([base, moved(base[:50], 0.99)])
    out = output_with(tmp_path / "out", vectors, form=form)  # type: ignore[arg-type]
    found = find_duplicates(Folder(out))
    assert found.later.tolist() == list(range(300, 350))
    assert np.abs(found.cosines - 0.99).mean() < 0.02


def test_near_pairs_are_found_without_comparing_all() -> None:
    """As in real embeddings, a few numbers tell most rows apart."""
    base = directions(20_000) * np.geomspace(1, 0.05, 64, dtype=np.float32)
    base /= np.linalg.norm(base, axis=1, keepdims=True)
    units = np.concatenate([base, moved(base[:2000], 0.951)]).astype(np.float16)
    groups = components(units, 0.95, NO_EDGES)
    found = groups[:2000] == groups[20_000:]
    assert found.mean() >= 0.99


def test_a_heap_of_near_identical_rows_takes_no_square_of_time() -> None:
    heap = moved(np.repeat(directions(1), 30_000, axis=0), 0.985)
    units = np.concatenate([heap, directions(30_000, seed=7)]).astype(np.float16)
    started = time.monotonic()
    groups = components(units, 0.95, NO_EDGES)
    assert len(np.unique(groups[:30_000])) == 1
    assert len(np.unique(groups[30_000:])) > 29_000
    assert time.monotonic() - started < 60  # 4.5e8 pairs lie within the heap alone


def test_rows_near_another_output_are_found_with_their_nearest(tmp_path: Path) -> None:
    base = directions(6000)
    train = output_with(tmp_path / "train", base)
    own = np.concatenate([directions(500, seed=9), moved(base[40:60], 0.97)])
    test = output_with(tmp_path / "test", own)
    found = find_matches(Folder(test), Folder(train), 0.95)
    assert found.row_ids.tolist() == list(range(500, 520))
    assert found.other_row_ids.tolist() == list(range(40, 60))
    assert found.shown[0].other_text.startswith("text ")


def test_the_command_writes_groups_once_and_collect_drops_the_copies(
    copied: Path, tmp_path: Path
) -> None:
    target, distinct = tmp_path / "groups.parquet", tmp_path / "distinct.parquet"
    asked = ["duplicates", str(copied), "--by", "own", "-o", str(target)]
    done = CliRunner().invoke(main, asked)
    assert done.exit_code == 0, done.output
    assert "25 of 115 rows are in 10 groups" in done.output
    table = pq.read_table(target)
    assert (len(table), table["group_size"][0].as_py()) == (25, 7)
    assert CliRunner().invoke(main, asked).exit_code == 2  # it is there
    again = CliRunner().invoke(main, [*asked, "--overwrite", "--json"])
    assert json.loads(again.output)["contradictions"] == {"own": 1, "topic": 1, "sentiment": 0}
    collected = ["collect", str(copied), "-o", str(distinct), "--drop-duplicates"]
    assert CliRunner().invoke(main, collected).exit_code == 0
    assert pq.read_table(distinct)["row_id"].to_pylist() == list(range(100))


def test_outputs_that_cannot_be_compared_are_refused_in_one_line(
    copied: Path, tmp_path: Path
) -> None:
    none = output_with(tmp_path / "none", directions(3), form="none")
    with pytest.raises(InputError, match=r"holds no embeddings .*; label its input again with"):
        find_duplicates(Folder(none))
    with pytest.raises(InputError, match="no column 'won'; did you mean 'own'"):
        find_duplicates(Folder(copied), by="won")
    signs = output_with(tmp_path / "signs", directions(3), form="binary")
    with pytest.raises(InputError, match="signs compare with signs alone"):
        find_matches(Folder(copied), Folder(signs), 0.95)


def test_an_output_without_rows_has_no_duplicates(tmp_path: Path) -> None:
    out = output_with(tmp_path / "out", directions(1))
    assert find_duplicates(Folder(out)).as_json()["groups"] == 0


def test_texts_that_begin_or_end_alike_are_copies_at_a_lesser_cosine() -> None:
    body = "shares of the company fell by a tenth on monday after it had said so much"
    texts = [f"Markets today {body}", body, f"{body} (Reuters)", "a short text", "a short text"]
    texts += [f"{n} {body} told by number {n}" for n in range(3)]
    near, far = moved(directions(1), 0.8), directions(1, seed=5)
    units = np.concatenate([directions(1), near, near, far, far, np.repeat(far, 3, axis=0)])
    one, other = alike_at_an_end(end_keys(texts), units.astype(np.float16))
    found = {frozenset(pair) for pair in zip(one.tolist(), other.tolist(), strict=True)}
    # 0 and 1 end alike, 1 and 2 begin alike; others are short, or apart.
    assert found == {frozenset({0, 1}), frozenset({1, 2})}


def test_an_end_that_many_texts_share_takes_no_square_of_pairs() -> None:
    ending = "read the whole story on our own page of the web for all of it"
    texts = [f"news of day {n} {ending}" for n in range(20_000)]
    units = np.repeat(directions(1), len(texts), axis=0).astype(np.float16)
    assert alike_at_an_end(end_keys(texts), units).shape[1] == len(texts) - 1
