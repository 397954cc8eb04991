"""The facts of a report as one HTML page that needs nothing else."""

from dataclasses import dataclass

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from numpy.typing import NDArray

from jobs.report import ReportFacts, rate_by_worker
from mtl_core.colours import COLOURS

MAP_WIDTH, MAP_HEIGHT = 720, 480
RATE_WIDTH, RATE_HEIGHT = 720, 160


@dataclass(frozen=True)
class Point:
    """A text on the map, in its pixels."""

    x: float
    y: float
    colour: str
    title: str


@dataclass(frozen=True)
class Line:
    """A worker's rows a second as an SVG path."""

    name: str
    colour: str
    path: str
    mean: float


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
        points=_points(facts, colours),
        colours=colours,
        map_size=(MAP_WIDTH, MAP_HEIGHT),
        lines=_lines(rates),
        top_rate=max((float(r.max()) for r in rates.values()), default=0.0),
        seconds=seconds,
        rate_size=(RATE_WIDTH, RATE_HEIGHT),
    )


def _colours(facts: ReportFacts) -> dict[str, str]:
    """Of the first task's labels."""
    labels = [*facts.tasks[0].labels, *(set(facts.tasks[0].counts) - set(facts.tasks[0].labels))]
    return {label: COLOURS[i % len(COLOURS)] for i, label in enumerate(labels)}


def _points(facts: ReportFacts, colours: dict[str, str]) -> list[Point]:
    if not len(facts.points):
        return []
    low, high = facts.points.min(axis=0), facts.points.max(axis=0)
    places = (facts.points - low) / np.maximum(high - low, 1e-9)
    return [
        Point(
            round(10 + x * (MAP_WIDTH - 20), 1),
            round(10 + y * (MAP_HEIGHT - 20), 1),
            colours[shown.labels[0]],
            f"{', '.join(shown.labels)}: {shown.text}",
        )
        for (x, y), shown in zip(places.tolist(), facts.sample, strict=True)
    ]


def _lines(rates: dict[str, NDArray[np.float64]]) -> list[Line]:
    top = max((float(rate.max()) for rate in rates.values()), default=1.0) or 1.0
    lines = []
    for index, (worker, rate) in enumerate(rates.items()):
        xs = np.linspace(0, RATE_WIDTH, len(rate))
        ys = RATE_HEIGHT - rate / top * (RATE_HEIGHT - 4)
        path = "M" + " L".join(f"{x:.1f} {y:.1f}" for x, y in zip(xs, ys, strict=True))
        busy = rate[rate > 0]
        mean = float(busy.mean()) if len(busy) else 0.0
        lines.append(Line(worker, COLOURS[index % len(COLOURS)], path, mean))
    return lines
