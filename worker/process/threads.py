"""A child's share of the cores."""

import os

from jobs.settings import Settings
from mtl_core.cores import available_cores

CHILDREN = "MTL_WORKER_CHILDREN"
"""Environment variable: how many children this worker has."""


def children_of_worker() -> int:
    """How many children this worker has."""
    return max(1, int(os.environ.get(CHILDREN, "1")))


def threads_of_child(settings: Settings) -> int:
    """How many threads a child computes on: as set, else its share of the cores."""
    if settings.threads is not None:
        return settings.threads
    return max(1, available_cores() // children_of_worker())
