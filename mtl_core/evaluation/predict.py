"""Logits of many texts outside the labelling engine: for training and evaluation."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mtl_core.data.encoded import EncodedTexts
from mtl_core.evaluation.metrics import classification_metrics
from mtl_core.model.batches import token_batches
from mtl_core.model.encoder import BATCH_TOKENS
from mtl_core.model.network import MultiTaskModel
from mtl_core.model.precision import Read, autocast, on_device, one_behind, to_host
from mtl_core.model.tokenizer import Tokenizer
from mtl_core.pulse import Pulse, no_pulse, pulsing

# Rows of stored vectors that are projected at once.
BLOCK_ROWS = 4096


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
        from_pooled: start from ``encoded.pooled`` if it is kept. That is correct only while the
            backbone is as published.
    """
    model.eval()
    device = next(model.parameters()).device
    logits = np.empty((len(encoded.ids), len(encoded.data.task.labels)), dtype=np.float32)
    with torch.inference_mode(), autocast(model, precision):
        if from_pooled and encoded.pooled is not None:
            for start in pulsing(range(0, len(logits), BLOCK_ROWS), pulse):
                block = encoded.pooled[start : start + BLOCK_ROWS].astype(np.float32)
                embedding = model.encoder.project(torch.from_numpy(block).to(device))
                logits[start : start + BLOCK_ROWS] = (
                    model.head_logits(embedding, task).cpu().numpy()
                )
            return logits

        def computed() -> Iterator[tuple[NDArray[np.int64], Read]]:
            for rows in pulsing(token_batches(encoded.lengths, BATCH_TOKENS[device.type]), pulse):
                padded = (on_device(t, device) for t in tokenizer.pad(encoded.ids.take(rows)))
                yield rows, to_host(model(*padded, task=task))

        for rows, read in one_behind(computed()):
            logits[rows] = read()
    return logits


def held_out_scores(
    model: MultiTaskModel,
    tasks: Mapping[str, EncodedTexts],
    precision: str = "auto",
    *,
    similarity: Callable[[], dict[str, Any] | None] = lambda: None,
    from_pooled: bool = False,
    pulse: Pulse = no_pulse,
) -> dict[str, Any]:
    """Score a model on held-out rows while it trains.

    Args:
        tasks: held-out rows by task name.
        similarity: as in :func:`mtl_core.evaluation.evaluate.evaluate_model`.
        precision, from_pooled, pulse: as for :func:`predict_logits`.
    Returns:
        ``held_out``: by task, what ``classification_metrics`` gives; and ``stsb``: what
        ``similarity`` gives, if its data is there.
    """
    held_out = {}
    for name, encoded in tasks.items():
        logits = predict_logits(
            *(model, model.tokenizer, name, encoded, precision),
            from_pooled=from_pooled,
            pulse=pulse,
        )
        data = encoded.data
        held_out[name] = classification_metrics(data.task, data.labels, logits.argmax(axis=1))
    stsb = similarity()
    return {"held_out": held_out, **({"stsb": stsb} if stsb is not None else {})}
