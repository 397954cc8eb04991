"""A finished output made without a model, for tests of what is done with one."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from specs import manifest_for

from jobs.output.layout import MANIFEST, SUCCESS
from mtl_core.storage.parquet import dictionary_column, embedding_columns

TASKS = {"topic": ["World", "Sports"], "sentiment": ["Negative", "Positive"]}
ROWS = 2000


def made_output(folder: Path, sports_every: int = 3) -> Path:
    """Of two parts; by default a third of its topics is Sports."""
    folder.mkdir()
    random = np.random.default_rng(3)
    entries = []
    for part, ids in enumerate(np.array_split(np.arange(ROWS), 2)):
        vectors = random.normal(size=(len(ids), 16)).astype(np.float32)
        columns = {
            "row_id": pa.array(ids),
            "text": pa.array([f'text {i}, with a "quote" and <b>' for i in ids]),
            "topic": dictionary_column((ids % sports_every == 0).astype(np.int8), TASKS["topic"]),
            "topic_score": pa.array((0.55 + ids / (2.5 * ROWS)).astype(np.float32)),
            "sentiment": dictionary_column(
                (ids % 2).astype(np.int8), TASKS["sentiment"], ids % 10 == 0
            ),
            "sentiment_score": pa.array(np.full(len(ids), 0.9, np.float32)),
            "truncated": pa.array(np.zeros(len(ids), bool)),
            "lang": pa.array(["de" if i % 4 == 0 else "en" for i in ids]),
            **embedding_columns(vectors, "float32"),
        }
        name = f"part-0000{part}-a1.parquet"
        pq.write_table(pa.table(columns), folder / name)
        entries.append({"part": name, "rows": len(ids)})
    manifest = manifest_for(entries, TASKS, embedding="float32")
    (folder / MANIFEST).write_text(json.dumps(manifest))
    (folder / SUCCESS).touch()
    return folder
