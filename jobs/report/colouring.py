"""The map of a report's sample: places, and what its points can be coloured by."""

from typing import Any

from jobs.report.facts import NO_LABEL, ReportFacts
from mtl_core.pages import COLOURS
from mtl_core.storage.parquet import typicality_column

MAP_WIDTH, MAP_HEIGHT = 720, 480
SCALE = ("#00224e", "#35456c", "#666970", "#948e77", "#c8b866", "#fee838")
"""From low to high: cividis (Nunez et al. 2018), even in lightness with any colour vision."""


def spots(facts: ReportFacts) -> list[tuple[float, float]]:
    """Each row's place on the map in pixels, in the order of the sample."""
    if not len(facts.points):
        return []
    low, high = facts.points.min(axis=0), facts.points.max(axis=0)
    places = (facts.points - low) / (high - low).clip(1e-9)
    return [
        (round(10 + x * (MAP_WIDTH - 20), 1), round(10 + y * (MAP_HEIGHT - 20), 1))
        for x, y in places.tolist()
    ]


def rows_json(facts: ReportFacts) -> list[list[Any]]:
    """Each row of the sample: ``row_id``, its labels, its text."""
    return [[row.row_id, list(row.labels), row.text] for row in facts.sample]


def colourings(facts: ReportFacts) -> list[dict[str, Any]]:
    """What the points can be coloured by: each task's labels, scores and typicality.

    Returns:
        by ``name``; of labels ``task``, its place, and ``colours`` by label; of numbers
        ``numbers``, one a row, and their range, ``low`` and ``high``.
    """
    found: list[dict[str, Any]] = []
    for place, task in enumerate(facts.tasks):
        labels = [*task.labels, *([NO_LABEL] if task.counts[NO_LABEL] else [])]
        colours = {label: COLOURS[i % len(COLOURS)] for i, label in enumerate(labels)}
        found.append({"name": f"{task.name}: label", "task": place, "colours": colours})
    for task in facts.tasks:
        columns = (f"{task.name}_score", "score"), (typicality_column(task.name), "typicality")
        for column, said in columns:
            numbers = [round(number, 3) for number in facts.numbers.get(column, [])]
            if numbers:
                ends = {"low": min(numbers), "high": max(numbers), "scale": SCALE}
                found.append({"name": f"{task.name}: {said}", "numbers": numbers, **ends})
    return found
