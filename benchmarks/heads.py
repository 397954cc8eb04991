"""How far checked rows move a head, by simulation: true labels as the reviewer's.

``python benchmarks/heads.py DATA [--model default] [--draws 10]``

Labels each file of ``sentiment_elsewhere`` by the model, draws rows to check at random, fits the
sentiment head on them as ``mtl train --scenario heads`` does, and scores it on all other rows.
Prints a Markdown table: accuracy before, and for 100, 200 and 500 rows the mean gain in points, the
least, and in how many draws it is not below 0.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from jobs.settings import settings
from mtl_core.engine.load import load_engine
from mtl_core.model.config import WEIGHTS
from mtl_core.model.folder import read_tensors
from mtl_core.model.identity import encoder_sha256
from mtl_core.model.registry import find_model
from mtl_core.model.stored import Rows, read_stored
from mtl_core.tasks import SENTIMENT
from mtl_core.training.heads import fit_head
from mtl_core.training.new_heads import head_of

SIZES = (100, 200, 500)


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--model", default="default")
    parser.add_argument("--draws", type=int, default=10)
    given = parser.parse_args()
    folder = find_model(given.model, settings().models, settings().model_copies).folder
    head = head_of(read_tensors(folder / WEIGHTS), SENTIMENT)
    stored = read_stored(folder, encoder_sha256(folder))["sentiment"].part(held_out=False)
    print(
        "| file | rows | before |", *(f"{size} rows: mean, least, not below 0 |" for size in SIZES)
    )
    print("|---|---|---|" + "---|" * len(SIZES))
    with tempfile.TemporaryDirectory() as cache:
        engine = load_engine(folder, cache=Path(cache))
        for file in sorted((given.data / "sentiment_elsewhere").glob("*.parquet")):
            table = pq.read_table(file)
            vectors = engine.label(table["sentence"].to_pylist(), lambda done: None).embeddings
            rows = Rows(vectors, table["label"].to_numpy().astype(np.int64))
            before = head.logits(rows.embeddings).argmax(axis=1) == rows.labels
            cells = []
            for size in SIZES:
                gains = []
                for draw in range(given.draws):
                    order = np.random.default_rng(draw).permutation(rows.number)
                    checked, rest = order[:size], rows.of(order[size:])
                    new = fit_head(head, rows.of(checked), stored, draw).head
                    after = new.logits(rest.embeddings).argmax(axis=1) == rest.labels
                    gains.append(100 * (after.mean() - before[order[size:]].mean()))
                least, fine = min(gains), sum(gain >= 0 for gain in gains)
                cells.append(f"{np.mean(gains):+.2f}, {least:+.2f}, {fine} of {len(gains)}")
            print(
                f"| {file.stem} | {rows.number:,} | {before.mean():.3f} |", " | ".join(cells), "|"
            )


if __name__ == "__main__":
    main()
