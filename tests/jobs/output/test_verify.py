"""`mtl verify`: each row once, each file as it was written."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from earlier import earlier_files

from jobs.output.verify import verify
from mtl_core.files import file_sha256
from mtl_core.storage.folder import Folder


@pytest.mark.parametrize("times", [2, 256, 513])
def test_a_row_that_is_there_several_times_is_told_however_often(
    times: int, tmp_path: Path
) -> None:
    output = earlier_files(tmp_path) / "done"
    manifest = json.loads((output / "_manifest.json").read_text())
    part = output / manifest["parts"][0]["part"]
    table = pq.read_table(part)
    more = pa.concat_tables([table, *[table.slice(3, 1)] * (times - 1)])
    pq.write_table(more, part)
    manifest["parts"][0] |= {"rows": len(more), "sha256": file_sha256(part)}
    (output / "_manifest.json").write_text(json.dumps(manifest))
    _, problems = verify(Folder(output))
    assert any("1 " in problem and "more than once" in problem for problem in problems), problems
