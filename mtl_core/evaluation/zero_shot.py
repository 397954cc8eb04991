"""Labels without training: the label whose description is nearest to the text."""

import numpy as np
from numpy.typing import NDArray

from mtl_core.model.encoder import SentenceEncoder
from mtl_core.tasks import Task


def zero_shot_classes(
    encoder: SentenceEncoder, task: Task, embeddings: NDArray[np.float32]
) -> NDArray[np.int64]:
    """The class whose description has the largest cosine with each text.

    Args:
        task: its ``descriptions`` are used, else its labels.
        embeddings: unit vectors of the texts, float32 [N, E].
    Returns:
        class indices, int64 [N].
    """
    descriptions = encoder.encode(task.descriptions or task.labels)  # [C, E]
    nearest: NDArray[np.int64] = (embeddings @ descriptions.T).argmax(axis=1)
    return nearest
