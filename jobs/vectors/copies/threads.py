"""Blocks of numpy's work side by side."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

from mtl_core.cores import available_cores

Given = TypeVar("Given")
Made = TypeVar("Made")


def side_by_side(work: Callable[[Given], Made], of: Iterable[Given]) -> Iterator[Made]:
    """Do work on each of many things, on all cores, and give the results in order.

    BLAS is held to one thread for each: its own threads wait for each other, which takes three
    times as long where other processes use the same cores.
    """
    from threadpoolctl import threadpool_limits

    cores = available_cores()
    waiting = iter(of)
    with ThreadPoolExecutor(cores) as pool:
        while some := list(islice(waiting, 8 * cores)):
            with threadpool_limits(1, user_api="blas"):
                made = list(pool.map(work, some))
            yield from made
