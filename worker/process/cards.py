"""Which GPU a child computes on: one card each."""

import os
from pathlib import Path

VISIBLE = "CUDA_VISIBLE_DEVICES"


def choose_card(child: int, devices: Path = Path("/dev")) -> None:
    """Let this process see one card only, chosen by its place among the worker's children.

    It must be called before torch is imported. Cards are those that ``CUDA_VISIBLE_DEVICES`` names,
    else all; with more children than cards, several share one.

    Args:
        child: the child's place, from 0.
        devices: the folder of device files.
    """
    named = os.environ.get(VISIBLE)
    if named is not None:
        cards = [card for card in named.split(",") if card]
    else:
        cards = [str(n) for n in range(len(list(devices.glob("nvidia[0-9]*"))))]
    if cards:
        os.environ[VISIBLE] = cards[child % len(cards)]
