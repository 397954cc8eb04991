"""A child's share of the cores."""

import os

import psutil

from jobs.settings import Settings

CHILDREN = "MTL_WORKER_CHILDREN"
"""Environment variable: how many children this worker has."""


def threads_of_child(settings: Settings) -> int:
    """Threads to compute on: as set, else the cores this process may use, by its siblings."""
    if settings.threads is not None:
        return settings.threads
    own = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else psutil.cpu_count()
    return max(1, (own or 1) // max(1, int(os.environ.get(CHILDREN, "1"))))
