"""How often the interval of `mtl audit` holds the truth, and how wide it is, by simulated audits.

    python benchmarks/audit.py DATA --model default

Labels the official splits, whose right labels are known, draws 200 rows of each a thousand times as
`mtl review` does, and compares each estimate's interval with the accuracy over the whole split and
with the plain binomial interval (Wilson's) of as many rows drawn without strata.
"""

import argparse
from pathlib import Path

import numpy as np
from scipy.stats import binomtest

from jobs.settings import settings
from mtl_core.data.splits import load_split
from mtl_core.engine.load import load_engine
from mtl_core.evaluation.audit import Checked, allocate, estimate_share
from mtl_core.model.registry import find_model


def audits(
    probabilities: np.ndarray, labels: np.ndarray, rows: int, draws: int
) -> dict[str, float]:
    """Coverage and mean width of both intervals over simulated audits."""
    predicted, scores = probabilities.argmax(axis=1), probabilities.max(axis=1).astype(np.float64)
    correct = (predicted == labels).astype(np.float64)
    truth = correct.mean()
    strata = np.unique(predicted, return_inverse=True)[1]
    sizes = np.bincount(strata)
    held, widths, plain_held, plain_widths = [], [], [], []
    for draw in range(draws):
        generator = np.random.default_rng(draw)
        drawn = np.concatenate(
            [
                generator.choice(np.flatnonzero(strata == stratum), count, replace=False)
                for stratum, count in enumerate(allocate(sizes.tolist(), rows))
            ]
        )
        checked = Checked(strata[drawn], sizes)
        found = estimate_share(checked, correct[drawn], scores[drawn], float(scores.mean()))
        held.append(found.low <= truth <= found.high)
        widths.append(found.width)
        plain = generator.choice(len(labels), rows, replace=False)
        interval = binomtest(int(correct[plain].sum()), rows).proportion_ci(method="wilson")
        plain_held.append(interval.low <= truth <= interval.high)
        plain_widths.append(interval.high - interval.low)
    return {
        "accuracy": truth,
        "holds": float(np.mean(held)),
        "width": float(np.mean(widths)),
        "binomial holds": float(np.mean(plain_held)),
        "binomial width": float(np.mean(plain_widths)),
    }


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--model", default="default")
    parser.add_argument("--rows", type=int, default=200)
    parser.add_argument("--draws", type=int, default=1000)
    options = parser.parse_args()
    entry = find_model(options.model, settings().models, settings().model_copies)
    engine = load_engine(entry.folder, cache=settings().engines)
    for task in engine.config.tasks:
        if task.source is None or not task.source.has_official_split:
            continue
        data = load_split(task, task.source.evaluation_split, options.data)
        labelled = engine.label(data.texts, lambda done: None)
        (answer,) = (each for each in labelled.labels if each.task.name == task.name)
        found = audits(answer.probabilities, data.labels, options.rows, options.draws)
        print(task.name, ", ".join(f"{name} {value:.4f}" for name, value in found.items()))


if __name__ == "__main__":
    main()
