"""Where the projection starts: the principal components of the pooled vectors.

A random projection to fewer dimensions blurs the backbone's cosines, and training has to win them
back; the leading components keep nearly all of them from the first step.
"""

import math
from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

CHUNK_ROWS = 8192


def principal_components(pooled: Iterable[NDArray[np.float16]]) -> Tensor:
    """Orthonormal directions, one a row, that of most energy first, float32 [H, H].

    The vectors are not centred, because their mean is a part of every cosine. Each task counts the
    same, however many rows it has.

    Args:
        pooled: by task, pooled vectors [N, H] of the backbone as published; read in pieces.
    """
    moments = [_second_moment(vectors) for vectors in pooled]
    _, directions = np.linalg.eigh(np.sum(moments, axis=0))
    return torch.from_numpy(np.ascontiguousarray(directions[:, ::-1].T).astype(np.float32))


@torch.no_grad()
def start_projection(projection: nn.Linear, components: Tensor) -> None:
    """Set the projection [E, H] to the first E components; rows beyond H stay as they are.

    The components are scaled so that outputs have the size that torch's own random start of a
    linear layer gives them. Then tanh begins in its linear part.
    """
    size, hidden = projection.weight.shape
    rows = min(size, hidden)
    scale = math.sqrt(size / (3 * hidden))
    projection.weight[:rows] = scale * components[:rows].to(projection.weight.device)
    projection.bias.zero_()


def _second_moment(vectors: NDArray[np.float16]) -> NDArray[np.float64]:
    """Mean outer product, scaled to trace 1, float64 [H, H]."""
    total = np.zeros((vectors.shape[1],) * 2)
    for begin in range(0, len(vectors), CHUNK_ROWS):
        part = vectors[begin : begin + CHUNK_ROWS].astype(np.float64)
        total += part.T @ part
    result: NDArray[np.float64] = total / np.trace(total)
    return result
