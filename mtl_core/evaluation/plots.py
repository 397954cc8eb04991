"""The comparison's pictures, drawn by matplotlib as SVG to stand inside an HTML page."""

import io
from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
from markupsafe import Markup
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from mtl_core.evaluation.facts import ModelFacts
from mtl_core.pages import COLOURS

# Stands for the page's own text colour, so that a picture follows its light or dark theme.
INK = "#010203"

MOST_LABELS = 30
"""How many labels a confusion matrix shows: nobody could read more, and drawing takes minutes."""

STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "mtl",
    "font.family": "sans-serif",
    "font.size": 9,
    **dict.fromkeys(
        ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), INK
    ),
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
}


def _svg(figure: Figure, title: str) -> Markup:
    """A figure as inline SVG with a title for screen readers."""
    stream = io.StringIO()
    with matplotlib.rc_context(STYLE):
        figure.savefig(stream, format="svg", transparent=True, metadata={"Date": None})
    svg = stream.getvalue()
    svg = svg[svg.index("<svg") :].replace(INK, "currentColor")
    head, _, rest = svg.partition(">")
    label = Markup.escape(title)
    return Markup(f'{head} role="img" aria-label="{label}">{rest}')


def learning_curves(models: Sequence[ModelFacts], tasks: Sequence[str]) -> Markup | None:
    """Held-out accuracy by epoch of each task, and STS-B; None if no model has trained."""
    trained = [(i, m) for i, m in enumerate(models) if len(m.history) and m.history[0]["loss"]]
    if not trained:
        return None
    with_stsb = any("stsb" in record for _, model in trained for record in model.history)
    panels = [*tasks, *(["STS-B"] if with_stsb else [])]
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(3.4 * len(panels), 2.8), layout="constrained")
        for place, panel in enumerate(panels, 1):
            axes = figure.add_subplot(1, len(panels), place)
            for index, model in trained:
                points = [
                    (record["epoch"], value)
                    for record in model.history
                    if (value := _score(record, panel)) is not None
                ]
                axes.plot(
                    *zip(*points, strict=True) if points else ((), ()),
                    marker="o",
                    markersize=3,
                    color=COLOURS[index % len(COLOURS)],
                    label=model.name,
                )
            axes.set_title(f"{panel} (held out)" if panel != "STS-B" else "STS-B (Spearman)")
            axes.set_xlabel("epoch")
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return _svg(figure, "Learning curves: held-out accuracy and STS-B by epoch")


def _score(record: dict[str, Any], panel: str) -> float | None:
    value = (
        record.get("stsb", {}).get("spearman")
        if panel == "STS-B"
        else record["held_out"].get(panel, {}).get("accuracy")
    )
    return None if value is None else float(value)


def reliability(models: Sequence[ModelFacts], task: str) -> Markup:
    """Accuracy against score in 15 bins on the official split, after calibration."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(3.4, 3.2), layout="constrained")
        axes = figure.add_subplot()
        axes.plot((0, 1), (0, 1), color=INK, linewidth=0.7, linestyle=":")
        for index, model in enumerate(models):
            bins = model.metrics.get("calibration", {}).get(task, {}).get("bins", [])
            axes.plot(
                [b["score"] for b in bins],
                [b["accuracy"] for b in bins],
                marker="o",
                markersize=3,
                linewidth=1,
                color=COLOURS[index % len(COLOURS)],
                label=model.name,
            )
        axes.set(title=f"{task}: calibration", xlabel="score", ylabel="accuracy")
        axes.legend(fontsize=7)
    return _svg(figure, f"{task}: accuracy against calibrated score")


def most_confused(
    matrix: list[list[int]], labels: list[str], most: int = MOST_LABELS
) -> tuple[list[list[int]], list[str]]:
    """The part of a confusion matrix with the labels that take part in most mistakes, in order."""
    if len(labels) <= most:
        return matrix, labels
    counts = np.asarray(matrix)
    wrong = counts.sum(axis=0) + counts.sum(axis=1) - 2 * counts.diagonal()
    shown = np.sort(np.argsort(-wrong, kind="stable")[:most])
    return counts[np.ix_(shown, shown)].tolist(), [labels[n] for n in shown]


def confusion(matrix: list[list[int]], labels: list[str], title: str) -> Markup:
    """Draw a confusion matrix; rows are the true classes, colours are shares of the row.

    If there are more than :data:`MOST_LABELS` labels, those with the most mistakes are shown.
    """
    if len(labels) > MOST_LABELS:
        title = f"{title}, {MOST_LABELS} of {len(labels):,} labels"
        matrix, labels = most_confused(matrix, labels)
    size = 1.1 + 0.55 * len(labels)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(size + 0.6, size), layout="constrained")
        axes = figure.add_subplot()
        shares = [[cell / max(1, sum(row)) for cell in row] for row in matrix]
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        for i, row in enumerate(matrix):
            for j, cell in enumerate(row):
                dark = shares[i][j] > 0.5
                axes.text(
                    j, i, f"{cell:,}", ha="center", va="center", fontsize=8,
                    color="white" if dark else "black",
                )  # fmt: skip
        axes.set_xticks(range(len(labels)), labels, rotation=30, ha="right", fontsize=8)
        axes.set_yticks(range(len(labels)), labels, fontsize=8)
        axes.set(title=title, xlabel="predicted", ylabel="true")
        axes.title.set_fontsize(9)
    return _svg(figure, f"{title}: confusion matrix")
