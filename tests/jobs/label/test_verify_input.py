"""`mtl verify OUT --input`: the output is compared with the input, value by value."""

import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support import Mtl

from jobs.label.verify_input import verify_input
from jobs.output.layout import MANIFEST
from mtl_core.files import file_sha256
from mtl_core.storage.folder import Folder

pytestmark = pytest.mark.slow


@pytest.fixture
def labelled(tmp_path: Path, mtl: Mtl) -> Path:
    """A finished output of two files, with a bad row and values that are easily changed."""
    rows = [{"id": f"{n:03}", "text": f"Match {n} was won.", "x": n / 3} for n in range(40)]
    rows[7]["text"] = " "
    with gzip.open(tmp_path / "a.jsonl.gz", "wt") as stream:
        stream.writelines(json.dumps(row) + "\n" for row in rows)
    table = pa.table({"id": ["b1", "b2"], "text": ["A film.", "A game."], "x": [float("nan"), 1.0]})
    pq.write_table(table, tmp_path / "b.parquet")
    ran = mtl("label", "a.jsonl.gz", "b.parquet", "-o", "out", "--shard-rows", "15", "-q")
    assert ran.code == 0, ran.err
    return tmp_path / "out"


def rewrite(output: Path, part: int, table: pa.Table) -> None:
    """Replace a part and its entry, as a defect of the product would."""
    manifest = json.loads((output / MANIFEST).read_text())
    entry = manifest["parts"][part]
    pq.write_table(table, output / entry["part"])
    entry["sha256"] = file_sha256(output / entry["part"])
    (output / MANIFEST).write_text(json.dumps(manifest))


def test_an_output_is_compared_with_its_input_value_by_value(
    labelled: Path, tmp_path: Path, mtl: Mtl
) -> None:
    ran = mtl("verify", "out", "--input")
    assert ran.code == 0, ran.err
    assert "every column as in the input" in ran.out
    manifest = json.loads((labelled / MANIFEST).read_text())
    table = pq.read_table(labelled / manifest["parts"][1]["part"], partitioning=None)
    ids, texts = table["id"].to_pylist(), table["text"].to_pylist()
    row = int(ids[2]) + 1
    ids[2], texts[3] = "7", texts[4]
    for name, values in (("id", ids), ("text", texts)):
        index = table.schema.get_field_index(name)
        table = table.set_column(index, name, pa.array(values))
    rewrite(labelled, 1, table)
    assert mtl("verify", "out").code == 0  # every row is there, with the checksums as noted
    ran = mtl("verify", "out", "--input")
    assert (ran.code, ran.err.count("\n")) == (3, 1)
    assert f"a.jsonl.gz:{row}: column 'id' is '{row - 1:03}' in the input, '7' in the" in ran.err
    assert f"a.jsonl.gz:{row + 1}: column 'text' is 'Match {row} was won.'" in ran.err
    # Other input, and one that has moved.
    (tmp_path / "moved").mkdir()
    for name in ("a.jsonl.gz", "b.parquet"):
        (tmp_path / name).rename(tmp_path / "moved" / name)
    ran = mtl("verify", "out", "--input")
    assert (ran.code, ran.err.count("\n")) == (2, 1)
    assert "the job's input is not there; give its files behind the output" in ran.err
    moved = [str(tmp_path / "moved" / name) for name in ("a.jsonl.gz", "b.parquet")]
    assert len(verify_input(Folder(labelled), moved)) == 2
    pq.write_table(pa.table({"id": ["b1"], "text": ["A film."], "x": [0.5]}), moved[1])
    found = verify_input(Folder(labelled), moved)
    assert any("b.parquet has changed since the job (checksum differs)" in line for line in found)
    assert any("b.parquet:1: column 'x' is 0.5 in the input, nan in the" in line for line in found)
    assert any("the input ends after 41 rows of 42" in line for line in found)
