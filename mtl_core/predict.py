"""Many texts through a model outside the labelling engine: for training and evaluation."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from mtl_core.batches import token_batches
from mtl_core.encoded import EncodedTexts, lengths_of
from mtl_core.model import MultiTaskModel, SentenceEncoder
from mtl_core.precision import autocast
from mtl_core.pulse import Pulse, no_pulse, pulsing
from mtl_core.tokenizer import Tokenizer

# Padded tokens in one batch; see mtl_core.engine.
BATCH_TOKENS = 4096
# Rows of stored vectors that are projected at once.
BLOCK_ROWS = 4096


def embed(
    encoder: SentenceEncoder,
    tokenizer: Tokenizer,
    ids: Sequence[Sequence[int]],
    precision: str = "auto",
    pulse: Pulse = no_pulse,
) -> NDArray[np.float32]:
    """Embeddings of rows of token ids, float32 [N, E], in the order given."""
    return project(encoder, pool(encoder, tokenizer, ids, precision, pulse))


def pool(
    encoder: SentenceEncoder,
    tokenizer: Tokenizer,
    ids: Sequence[Sequence[int]],
    precision: str = "auto",
    pulse: Pulse = no_pulse,
) -> NDArray[np.float32]:
    """Pooled vectors of rows of token ids, float32 [N, H], in the order given."""
    encoder.eval()
    device = encoder.projection.weight.device
    vectors = np.empty((len(ids), encoder.projection.in_features), dtype=np.float32)
    with torch.inference_mode(), autocast(encoder, precision):
        for rows in pulsing(token_batches(lengths_of(ids), BATCH_TOKENS), pulse):
            input_ids, mask = tokenizer.pad([ids[row] for row in rows])
            pooled = encoder.pool(input_ids.to(device), mask.to(device))
            vectors[rows] = pooled.float().cpu().numpy()
    return vectors


def project(encoder: SentenceEncoder, pooled: NDArray[np.float32]) -> NDArray[np.float32]:
    """Embeddings, float32 [N, E], of pooled vectors, float32 [N, H]."""
    device = encoder.projection.weight.device
    with torch.inference_mode():
        vectors: NDArray[np.float32] = (
            encoder.project(torch.from_numpy(pooled).to(device)).cpu().numpy()
        )
    return vectors


def predict_logits(
    model: MultiTaskModel,
    tokenizer: Tokenizer,
    task: str,
    encoded: EncodedTexts,
    precision: str = "auto",
    *,
    from_pooled: bool = False,
    pulse: Pulse = no_pulse,
) -> NDArray[np.float32]:
    """One head's logits for all texts of a task, float32 [N, C], in evaluation mode.

    Args:
        from_pooled: start from ``encoded.pooled``; right only while the backbone is as published.
    """
    model.eval()
    device = next(model.parameters()).device
    logits = np.empty((len(encoded.ids), len(encoded.data.task.labels)), dtype=np.float32)
    with torch.inference_mode(), autocast(model, precision):
        if from_pooled:
            assert encoded.pooled is not None
            for start in pulsing(range(0, len(logits), BLOCK_ROWS), pulse):
                block = encoded.pooled[start : start + BLOCK_ROWS].astype(np.float32)
                embedding = model.encoder.project(torch.from_numpy(block).to(device))
                logits[start : start + BLOCK_ROWS] = (
                    model.head_logits(embedding, task).cpu().numpy()
                )
            return logits
        for rows in pulsing(token_batches(encoded.lengths, BATCH_TOKENS), pulse):
            input_ids, mask = tokenizer.pad([encoded.ids[row] for row in rows])
            values = model(input_ids.to(device), mask.to(device), task=task)
            logits[rows] = values.float().cpu().numpy()
    return logits
