"""Cosines of embeddings stored as signs alone (``--embedding binary``).

Of two vectors at angle a, a share a/pi of the signs differs if the directions are as good as random
(Charikar 2002, "Similarity estimation techniques from rounding algorithms"). So the cosine of the
sign vectors, 1 - 2a/pi, tells the angle; with 256 signs, to about 0.02 near a cosine of 0.95.
"""

import numpy as np
from numpy.typing import NDArray


def threshold_between(form: str, threshold: float) -> float:
    """The cosine between stored vectors that stands for a cosine of the embeddings.

    Args:
        form: how the embeddings are stored.
    """
    return float(1 - 2 * np.arccos(threshold) / np.pi) if form == "binary" else threshold


def cosines_meant(form: str, cosines: NDArray[np.float32]) -> NDArray[np.float32]:
    """The cosines of the embeddings, estimated from those between stored vectors, float32 [N]."""
    if form != "binary":
        return cosines
    found: NDArray[np.float32] = np.cos((1 - cosines) * np.float32(np.pi / 2))
    return found
