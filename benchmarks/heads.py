"""How far checked rows move a head, by simulation: true labels as the reviewer's.

``python benchmarks/heads.py DATA [--model default] [--draws 10]``

Labels each file of ``sentiment_elsewhere`` by the model, draws rows to check as ``mtl review`` does
or all at random, fits the sentiment head on them as ``mtl train --scenario heads`` does, and scores
it on the rows that neither draw has. Prints a Markdown table: accuracy before, and for 100, 200 and
500 rows of either draw the mean gain in points, the least, and in how many draws it is not below 0.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from jobs.output.layout import read_manifest
from jobs.output.rows import batches, vectors_of
from jobs.review.draw import draw_rows
from jobs.settings import settings
from mtl_core.model.config import WEIGHTS
from mtl_core.model.folder import read_tensors
from mtl_core.model.identity import encoder_sha256
from mtl_core.model.registry import find_model
from mtl_core.model.stored import Rows, read_stored
from mtl_core.storage.folder import Folder
from mtl_core.storage.parquet import EMBEDDING, ROW_ID
from mtl_core.tasks import SENTIMENT
from mtl_core.training.heads import fit_head
from mtl_core.training.new_heads import head_of

SIZES = (100, 200, 500)
DRAWS = ("review", "random")
TRUTH = "label"
"""Column of the right label's number."""


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
    print("| file | rows | before | drawn |", *(f"{size} rows |" for size in SIZES))
    print("|---|---|---|---|" + "---|" * len(SIZES))
    for file in sorted((given.data / "sentiment_elsewhere").glob("*.parquet")):
        with tempfile.TemporaryDirectory() as scratch:
            output = Folder(Path(scratch) / "out")
            command = [sys.executable, "-m", "jobs", "label", file, "-o", output.path, "-q"]
            command += ["--model", given.model]
            subprocess.run([*map(str, command)], check=True, stdout=subprocess.DEVNULL)
            places, rows = rows_of(output)
            before = head.logits(rows.embeddings).argmax(axis=1) == rows.labels
            cells: dict[str, list[str]] = {how: [] for how in DRAWS}
            for size in SIZES:
                gains: dict[str, list[float]] = {how: [] for how in DRAWS}
                for seed in range(given.draws):
                    drawn = {how: draw(output, how, size, seed, places) for how in DRAWS}
                    rest = np.ones(rows.number, dtype=bool)
                    rest[np.concatenate(list(drawn.values()))] = False
                    for how, checked in drawn.items():
                        new = fit_head(head, rows.of(checked), stored, seed).head
                        others = rows.of(rest)
                        after = new.logits(others.embeddings).argmax(axis=1) == others.labels
                        gains[how].append(100 * float(after.mean() - before[rest].mean()))
                for how, found in gains.items():
                    fine = sum(gain >= 0 for gain in found)
                    cells[how].append(
                        f"{np.mean(found):+.2f}, {min(found):+.2f}, {fine} of {len(found)}"
                    )
            for how in DRAWS:
                start = f"| {file.stem} | {rows.number:,} | {before.mean():.3f} | {how} |"
                print(start, " | ".join(cells[how]), "|", flush=True)


def rows_of(output: Folder) -> tuple[dict[int, int], Rows]:
    """An output's embeddings with their right labels, and the place of each by its ``row_id``."""
    manifest = read_manifest(output)
    ids, vectors, labels = list[int](), [], list[int]()
    for batch in batches(output, manifest, {ROW_ID, EMBEDDING, TRUTH}):
        ids += batch[ROW_ID].to_pylist()
        labels += batch[TRUTH].to_pylist()
        vectors.append(vectors_of(batch, manifest.embedding))
    found = Rows(np.concatenate(vectors), np.array(labels, dtype=np.int64))
    return {row_id: place for place, row_id in enumerate(ids)}, found


def draw(
    output: Folder, how: str, size: int, seed: int, places: dict[int, int]
) -> NDArray[np.int64]:
    """Places of the rows checked."""
    if how == "random":
        return np.random.default_rng(seed).permutation(len(places))[:size]
    drawn = draw_rows(output, read_manifest(output), ["sentiment"], size, seed)
    return np.array([places[row.row_id] for row in drawn])


if __name__ == "__main__":
    main()
