"""The facts of a report as one HTML page that needs nothing else."""

from dataclasses import dataclass

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from numpy.typing import NDArray

from jobs.report import ReportFacts, rate_by_worker
from mtl_core.colours import COLOURS

MAP_WIDTH, MAP_HEIGHT = 720, 480
RATE_WIDTH, RATE_HEIGHT = 720, 160
MOST_WORKERS = 100


@dataclass(frozen=True)
class Point:
    """A text on the map, in its pixels."""

    x: float
    y: float
    label: str
    """Of the first task."""
    title: str


@dataclass(frozen=True)
class Line:
    """A worker's rows a second as an SVG path."""

    name: str
    colour: str
    path: str
    """Empty for a worker that the picture has no room for."""
    rows: int
    mean: float
    all: bool = False
    """The sum of all workers."""


def render(facts: ReportFacts) -> str:
    """The page."""
    environment = Environment(
        loader=PackageLoader("jobs"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    seconds, rates = rate_by_worker(facts.manifest)
    colours = _colours(facts)
    return environment.get_template("report.html").render(
        facts=facts,
        rows=facts.manifest["rows"],
        points=_points(facts),
        colours=colours,
        map_size=(MAP_WIDTH, MAP_HEIGHT),
        lines=_lines(rates, seconds),
        top_rate=_top(rates),
        seconds=seconds,
        rate_size=(RATE_WIDTH, RATE_HEIGHT),
    )


def _colours(facts: ReportFacts) -> dict[str, str]:
    """Of the first task's labels."""
    labels = [*facts.tasks[0].labels, *(set(facts.tasks[0].counts) - set(facts.tasks[0].labels))]
    return {label: COLOURS[i % len(COLOURS)] for i, label in enumerate(labels)}


def _points(facts: ReportFacts) -> list[Point]:
    if not len(facts.points):
        return []
    low, high = facts.points.min(axis=0), facts.points.max(axis=0)
    places = (facts.points - low) / np.maximum(high - low, 1e-9)
    return [
        Point(
            round(10 + x * (MAP_WIDTH - 20), 1),
            round(10 + y * (MAP_HEIGHT - 20), 1),
            shown.labels[0],
            f"{', '.join(shown.labels)}: {shown.text}",
        )
        for (x, y), shown in zip(places.tolist(), facts.sample, strict=True)
    ]


def _top(rates: dict[str, NDArray[np.float64]]) -> float:
    return float(sum(rates.values(), np.zeros(1)).max())


def _lines(rates: dict[str, NDArray[np.float64]], seconds: float) -> list[Line]:
    """All workers together, then each, the one with the most rows first."""
    top = _top(rates) or 1.0
    ordered = sorted(rates.items(), key=lambda item: -item[1].sum())
    everyone = [("all workers", sum(rates.values(), np.zeros(1)))] if len(rates) > 1 else []
    lines = []
    for index, (worker, rate) in enumerate([*everyone, *ordered[:MOST_WORKERS]]):
        own = index - len(everyone)
        lines.append(
            Line(
                name=worker,
                colour="currentColor" if own < 0 else COLOURS[own % len(COLOURS)],
                path=_path(rate, top) if own < len(COLOURS) else "",
                rows=round(float(rate.mean()) * seconds),
                mean=float(rate[rate > 0].mean()) if (rate > 0).any() else 0.0,
                all=own < 0,
            )
        )
    return lines


def _path(rate: NDArray[np.float64], top: float) -> str:
    xs = np.linspace(0, RATE_WIDTH, len(rate))
    ys = RATE_HEIGHT - rate / top * (RATE_HEIGHT - 4)
    return "M" + " L".join(f"{x:.1f} {y:.1f}" for x, y in zip(xs, ys, strict=True))
