"""Near-equal texts of an output whose labels contradict, as its report shows them."""

from dataclasses import dataclass

import numpy as np

from jobs.report.facts import ReportFacts
from jobs.vectors.copies.duplicates import Group, find_duplicates
from jobs.vectors.copies.stored import stored_of
from mtl_core.storage.place import Place

WHOLE_ROWS = 100_000
"""Of a larger output the page's sample is looked through: a page should not take minutes."""


@dataclass(frozen=True)
class Contradicting:
    """Groups of near-equal texts whose labels differ."""

    rows: int
    """Rows looked through."""
    whole: bool
    """Whether these are all rows."""
    threshold: float
    """Least cosine within a group."""
    groups: int
    """Of near-equal texts."""
    count: int
    """Groups of them whose labels differ."""
    shown: tuple[Group, ...]
    """A few of these."""


def find_contradicting(
    output: Place, facts: ReportFacts, generation: int | None = None
) -> Contradicting | None:
    """Find them in an output, or a generation of it; None where it has no embeddings.

    Raises:
        InputError: a part has gone.
    """
    if not len(facts.vectors):
        return None
    rows = sum(part.rows for part in facts.manifest.parts)
    whole = rows <= WHOLE_ROWS
    ids = np.array([row.row_id for row in facts.sample], np.int64)
    stored = None if whole else stored_of(ids, facts.vectors)
    found = find_duplicates(output, stored=stored, generation=generation)
    differ = np.zeros(len(found.starts), bool)
    for one in found.contradictions.values():
        differ |= one
    shown = tuple(group for group in found.shown if group.contradicts)
    return Contradicting(
        found.rows, whole, found.threshold, len(found.starts), int(differ.sum()), shown
    )
