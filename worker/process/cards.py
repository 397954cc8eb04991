"""Which GPU a child computes on: one card each."""

import os
import socket
from contextlib import suppress
from pathlib import Path

VISIBLE = "CUDA_VISIBLE_DEVICES"

_claims: list[socket.socket] = []
"""Claims of this process; they end with it, however it ends."""


def cards_here(devices: Path = Path("/dev")) -> list[str]:
    """The cards that this process may use: those ``CUDA_VISIBLE_DEVICES`` names, else all.

    Args:
        devices: the folder of device files.
    """
    named = os.environ.get(VISIBLE)
    if named is not None:
        return [card for card in named.split(",") if card]
    return [str(n) for n in range(len(list(devices.glob("nvidia[0-9]*"))))]


def choose_card(child: int, devices: Path = Path("/dev"), claims: str = "mtl-card") -> None:
    """Let this process see one card only: one that no other child on this machine has claimed.

    It must be called before torch is imported. If all are claimed, the card is shared that comes by
    the child's place.

    Args:
        child: the child's place among the worker's, from 0: the card it asks for first.
        devices: the folder of device files.
        claims: what the names of claims begin with.
    """
    cards = cards_here(devices)
    if not cards:
        return
    first = child % len(cards)
    order = cards[first:] + cards[:first]
    free = (card for card in order if _claim(f"{claims}-{card}"))
    os.environ[VISIBLE] = next(free, order[0])


def _claim(name: str) -> bool:
    """Claim a name for this process; False while another holds it.

    An abstract socket: the kernel lets one process at a time have the name, of whatever user, and
    frees it when the process is gone. There is no file that could be left behind.
    """
    claim = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    with suppress(OSError):
        claim.bind(f"\0{name}")
        _claims.append(claim)
        return True
    claim.close()
    return False
