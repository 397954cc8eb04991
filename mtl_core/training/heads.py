"""Train heads alone, on embeddings: checked rows of an output and stored rows of the training data.

A head moves away from what it was no further than the checked rows bear out: a ridge on the change,
whose strength is chosen by the checked rows left out in turn. So a handful of rows cannot ruin a
head that was right, and a few hundred can move it to their own kind of text.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mtl_core.evaluation.calibration import softmax
from mtl_core.model.stored import Rows
from mtl_core.pulse import Pulse, no_pulse

STRENGTHS = (0.1, 0.01, 0.003, 0.001, 0.0003)
"""Ridges on the change of a head that are tried, from hardly any change to a free one."""
SIGNIFICANCE = 1.645
"""How many standard errors a change must gain: one-sided, of 20 that bring nothing one passes."""
FOLDS = 5
"""Parts that the checked rows are left out by."""
STORED_WEIGHT = 0.1
"""Weight of all stored rows together, as a share of that of all checked rows."""


@dataclass(frozen=True)
class Head:
    """A linear head, its logit scale multiplied in."""

    weight: NDArray[np.float64]
    """float64 [C, E]."""
    bias: NDArray[np.float64]
    """float64 [C]."""

    def logits(self, embeddings: NDArray[np.floating]) -> NDArray[np.float64]:
        """float64 [N, C]."""
        found: NDArray[np.float64] = embeddings @ self.weight.T + self.bias
        return found


@dataclass(frozen=True)
class FittedHead:
    """A head fitted to checked rows."""

    head: Head
    left_out: NDArray[np.float64]
    """Logits of the checked rows, each by a head fitted without it, float64 [N, C]."""
    strength: float
    """The ridge that was chosen; infinite: the head stays as it was."""


def fit_head(
    before: Head,
    checked: Rows,
    stored: Rows | None,
    seed: int = 0,
    pulse: Pulse = no_pulse,
    significance: float = SIGNIFICANCE,
) -> FittedHead:
    """Move a head by checked rows.

    From the strongest ridge on, a weaker one is taken where the checked rows left out are more
    likely under it, by more than chance would show; else the head stays as it was.

    Args:
        before: the head to start from.
        checked: at least one row.
        stored: rows that the model was trained on; None: there are none.
        seed: decides which rows are left out together.
        significance: how many standard errors a weaker ridge must gain.
    """
    best = FittedHead(before, before.logits(checked.embeddings), np.inf)
    losses = _losses(best.left_out, checked.labels)
    folds = np.random.default_rng(seed).permutation(checked.number) % FOLDS
    for strength in STRENGTHS:
        left_out = np.empty_like(best.left_out)
        for fold in np.unique(folds):
            pulse()
            kept = checked.of(folds != fold)
            head = _fit(before, kept, stored, strength) if kept.number else before
            left_out[folds == fold] = head.logits(checked.embeddings[folds == fold])
        gains = losses - _losses(left_out, checked.labels)
        if gains.mean() > significance * gains.std() / np.sqrt(len(gains)):
            losses, best = losses - gains, FittedHead(before, left_out, strength)
    if np.isinf(best.strength):
        return best
    return FittedHead(_fit(before, checked, stored, best.strength), best.left_out, best.strength)


def _losses(logits: NDArray[np.float64], labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """Negative log-likelihood of each row, float64 [N]."""
    chosen = softmax(logits.astype(np.float32))[np.arange(len(labels)), labels]
    losses: NDArray[np.float64] = -np.log(np.maximum(chosen, 1e-12))
    return losses


def _fit(start: Head, checked: Rows, stored: Rows | None, strength: float) -> Head:
    """The head with the least weighted cross-entropy plus ridge on its change."""
    from scipy.optimize import minimize

    parts = [checked] if stored is None or not stored.number else [checked, stored]
    shares = [1.0, STORED_WEIGHT][: len(parts)]
    embeddings = np.concatenate([part.embeddings for part in parts]).astype(np.float64)
    labels = np.concatenate([part.labels for part in parts])
    weights = np.concatenate(
        [
            np.full(part.number, share / part.number)
            for part, share in zip(parts, shares, strict=True)
        ]
    )
    inputs = np.column_stack([embeddings, np.ones(len(embeddings))])
    base, shape = start.logits(embeddings), (len(start.bias), inputs.shape[1])
    objective = _objective(inputs, base, labels, weights, strength, shape)
    found = minimize(objective, np.zeros(shape).ravel(), jac=True, method="L-BFGS-B")
    change = found.x.reshape(shape)
    return Head(start.weight + change[:, :-1], start.bias + change[:, -1])


def _objective(
    inputs: NDArray[np.float64],
    base: NDArray[np.float64],
    labels: NDArray[np.int64],
    weights: NDArray[np.float64],
    strength: float,
    shape: Sequence[int],
) -> Callable[[NDArray[np.float64]], tuple[float, NDArray[np.float64]]]:
    """Value and gradient for a change of weights and bias, float64 [C * (E + 1)]."""
    rows = np.arange(len(labels))

    def value(flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        change = flat.reshape(shape)
        logits = base + inputs @ change.T
        logits -= logits.max(axis=1, keepdims=True)
        powers = np.exp(logits)
        sums = powers.sum(axis=1, keepdims=True)
        loss = weights @ (np.log(sums[:, 0]) - logits[rows, labels])
        slopes = powers / sums
        slopes[rows, labels] -= 1
        gradient = (slopes * weights[:, None]).T @ inputs + strength * change
        return float(loss + strength / 2 * (change**2).sum()), gradient.ravel()

    return value
