"""How well suspected label errors are found: flip 5 % of a split's labels and look for them.

    python benchmarks/suspects.py DATA [--rows N] [--keep FOLDER]

DATA is a folder with ag_news/ and sst2/, as `mtl train --data` takes it. For each task the labels
of one row in twenty are changed to another class at random; printed is the share of them among the
first 8 % of all training rows, ranked as a training run ranks them. The bar is 0.80.
"""

import argparse
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from mtl_core.config import ModelConfig, TrainConfig
from mtl_core.data.encoded import encode_texts
from mtl_core.data.splits import LabelledTexts, load_split
from mtl_core.evaluation.suspects import find_suspects
from mtl_core.model.network import build_model
from mtl_core.tasks import DEFAULT_TASKS
from mtl_core.training.preparation import Store

FLIPPED, FIRST = 0.05, 0.08


def main() -> None:
    """Print one line for each task."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--rows", type=int, help="only a sample of so many rows of each task")
    parser.add_argument("--keep", type=Path, help="folder that keeps the vectors for the next time")
    parser.add_argument("--task", choices=[task.name for task in DEFAULT_TASKS])
    parser.add_argument("--seed", type=int, default=7)
    given = parser.parse_args()
    with TemporaryDirectory() as scratch:
        for task in DEFAULT_TASKS:
            if given.task in (None, task.name):
                assert task.source is not None
                data = load_split(task, task.source.train_split, given.data)
                if given.rows is not None:
                    drawn = np.random.default_rng(0).choice(
                        len(data), min(given.rows, len(data)), replace=False
                    )
                    data = data.take(np.sort(drawn))
                measure(data, given.keep or Path(scratch), given.seed)


def measure(data: LabelledTexts, folder: Path, seed: int) -> None:
    """Flip labels, rank the rows, and print how many of the flipped ones come first."""
    config, task = TrainConfig(), data.task
    model, tokenizer = build_model(ModelConfig())
    encoded = encode_texts(data, tokenizer, config.max_tokens)
    store = Store(model, tokenizer, config, folder, 0, int(encoded.lengths.sum()))
    vectors = store.with_pooled(encoded, f"{task.name}-train").pooled
    assert vectors is not None
    generator = np.random.default_rng(seed)
    flipped = generator.choice(len(data), int(len(data) * FLIPPED), replace=False)
    labels = data.labels.copy()
    step = generator.integers(1, len(task.labels), len(flipped))
    labels[flipped] = (labels[flipped] + step) % len(task.labels)
    clean = find_suspects(data, vectors)
    started = time.monotonic()
    found = find_suspects(LabelledTexts(task, data.texts, labels), vectors)
    seconds = time.monotonic() - started
    first = found.ranking[: int(len(data) * FIRST)]
    share = np.isin(flipped, first).mean()
    listed = np.isin(found.rows, flipped)
    print(
        f"{task.name}: {len(data):,} rows, {share:.3f} of the flipped in the first {FIRST:.0%}; "
        f"listed {len(found.rows):,}, of them flipped {listed.mean():.3f}, "
        f"in the first thousand {listed[:1000].mean():.3f}; "
        f"without flips listed {len(clean.rows):,}; {seconds:.0f} s",
        flush=True,
    )


if __name__ == "__main__":
    main()
