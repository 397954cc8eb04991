"""The loss added to cross-entropy: it keeps embeddings fit for similarity search.

Fine-tuning on labels alone makes them unfit: one epoch was measured to take Spearman's correlation
on STS-B validation from 0.861 to 0.640. This loss keeps the cosines among a batch's texts near
those of the backbone as published.
"""

from torch import Tensor
from torch.nn import functional as F


def similarity_loss(embedding: Tensor, reference: Tensor) -> Tensor:
    """Mean squared difference between two cosine matrices of one batch.

    Args:
        embedding: unit vectors, float [B, E].
        reference: pooled vectors of the backbone as published, of any length, float [B, H].
    Returns:
        a scalar; the diagonal, always 0, is counted.
    """
    reference = F.normalize(reference, dim=-1)
    return F.mse_loss(embedding @ embedding.T, reference @ reference.T)
