"""What changed between two outputs, as one HTML page that needs nothing else."""

from collections.abc import Sequence
from pathlib import Path

from jobs.output.layout import read_manifest
from jobs.output.targets import in_one_line
from jobs.review.diff import TaskDiff
from mtl_core import pages
from mtl_core.files import write_text
from mtl_core.storage.place import Place

MATRIX_LABELS = 20
"""A task with more labels than these has no matrix, which nobody could read; its list has all."""


def write_page(
    target: Path,
    outputs: tuple[Place, Place],
    found: Sequence[TaskDiff],
    *,
    by: str | None,
    reviewed: bool,
) -> None:
    """Write the page.

    Args:
        target: as :func:`jobs.output.targets.check_page_target` lets it pass.
        outputs: the one before and the one after.
        found: what changed between them.
        by: the column whose values the changes were counted by.
        reviewed: whether rows checked by hand were given.
    Raises:
        OutputError: it cannot be written.
    """
    text = pages.render(
        "jobs.review",
        "diff.html",
        sides=[
            (name, place, read_manifest(place))
            for name, place in zip(("before", "after"), outputs, strict=True)
        ],
        tasks=[(each, matrix_labels(each)) for each in found],
        by=by,
        reviewed=reviewed,
    )
    with in_one_line(target):
        write_text(target, text)


def matrix_labels(found: TaskDiff) -> list[str]:
    """The labels of a task's matrix, those that no row has left out; none where they are many."""
    there = {*found.kept, *(label for pair in found.flips for label in pair)}
    labels = [label for label in (*found.labels, "") if label in there]
    return labels if len(labels) <= MATRIX_LABELS else []
