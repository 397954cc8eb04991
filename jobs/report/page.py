"""The facts of a report as one HTML page that needs nothing else."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from jobs.output.manifest import Manifest
from jobs.output.targets import check_page_target, in_one_line
from jobs.report.colouring import MAP_HEIGHT, MAP_WIDTH, colourings, rows_json, spots
from jobs.report.facts import ReportFacts, gather
from jobs.report.near import Contradicting, find_contradicting
from jobs.vectors.drift import Drift, find_drift
from mtl_core import pages
from mtl_core.files import write_text
from mtl_core.pages import COLOURS
from mtl_core.storage.place import Place

RATE_WIDTH, RATE_HEIGHT = 720, 160
MOST_WORKERS = 100
TIME_BINS = 40


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
    """Whether this line is the sum of all workers."""


def write_report(
    output: Place,
    target: Path,
    *,
    overwrite: bool = False,
    against: Place | None = None,
    generation: int | None = None,
) -> ReportFacts:
    """Gather an output folder's facts and write the page.

    Args:
        overwrite: also replace a file that is no page of ours.
        against: an earlier output of the same model, to compare with.
        generation: of this one alone; None: of all.
    Raises:
        InputError: as :func:`gather`, or the outputs cannot be compared.
        OutputError: the page cannot be written, or would replace a file that is none of ours.
    """
    check_page_target(target, overwrite=overwrite)
    drift = find_drift(against, output, generation=generation) if against else None
    facts = gather(output, generation)
    near = find_contradicting(output, facts, generation)
    with in_one_line(target):
        write_text(target, render(facts, near, drift))
    return facts


def render(
    facts: ReportFacts, near: Contradicting | None = None, drift: Drift | None = None
) -> str:
    """The page as HTML."""
    seconds, rates = rate_by_worker(facts.manifest)
    return pages.render(
        "jobs.report",
        "report.html",
        facts=facts,
        rows=facts.manifest.rows,
        points=spots(facts),
        colourings=colourings(facts),
        sample=rows_json(facts),
        near=near,
        drift=drift,
        map_size=(MAP_WIDTH, MAP_HEIGHT),
        lines=_lines(rates, seconds),
        top_rate=_top(rates),
        seconds=seconds,
        rate_size=(RATE_WIDTH, RATE_HEIGHT),
    )


def rate_by_worker(manifest: Manifest) -> tuple[float, dict[str, NDArray[np.float64]]]:
    """Rows a second of each worker over the job's time.

    A part's rows are spread evenly over the seconds in which its worker made it.

    Returns:
        seconds from the first part's start to the last one's end; float64 [TIME_BINS] by worker.
    """
    spans = [
        (p.worker, p.rows, p.finished_s - sum(p.seconds.values()), p.finished_s)
        for p in manifest.parts
        if p.finished_s is not None
    ]
    if not spans:
        return 0.0, {}
    begin, end = min(s[2] for s in spans), max(s[3] for s in spans)
    edges = np.linspace(begin, max(end, begin + 1e-3), TIME_BINS + 1)
    rates: dict[str, NDArray[np.float64]] = {}
    for worker, rows, start, stop in sorted(spans):
        overlap = np.minimum(edges[1:], stop) - np.maximum(edges[:-1], start)
        share = np.maximum(overlap, 0) / max(stop - start, 1e-6)
        rate = rows * share / np.diff(edges)
        rates[worker] = rates.get(worker, np.zeros(TIME_BINS)) + rate
    return float(end - begin), rates


def _top(rates: dict[str, NDArray[np.float64]]) -> float:
    return float(sum(rates.values(), np.zeros(1)).max())


def _lines(rates: dict[str, NDArray[np.float64]], seconds: float) -> list[Line]:
    """The line of all workers together, then each worker's, the one with the most rows first."""
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
