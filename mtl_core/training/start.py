"""Where a run starts: the model, and its projection.

A random projection to fewer dimensions blurs the backbone's cosines, and training has to win them
back; the leading principal components of the pooled vectors keep nearly all of them from the first
step.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mtl_core.config import ModelConfig, TrainConfig
from mtl_core.model.layers import evenly, keep_layers, transformer_layers
from mtl_core.model.network import MultiTaskModel, build_model, load_model
from mtl_core.model.precision import best_device
from mtl_core.pulse import Pulse, no_pulse, with_pulse
from mtl_core.training.kept.teacher import Teacher

CHUNK_ROWS = 8192


def fresh_model(
    config: TrainConfig,
    model_config: ModelConfig,
    teachers: Sequence[Teacher] = (),
    pulse: Pulse = no_pulse,
) -> tuple[MultiTaskModel, set[str]]:
    """A model to train: the published backbone, whole or with some of its layers.

    Where it has lost layers and has a teacher of the same backbone, it starts as that teacher does
    without these layers; else projection and heads start at random.

    Returns:
        the model, and the names of the parameters that it has from its teacher. They must be saved
        whether they are trained or not: the backbone as published holds others.
    Raises:
        ModelError: the backbone has fewer layers than are to be kept.
    """
    torch.manual_seed(config.seed)  # the fresh projection and heads depend on it
    wanted = replace(model_config, logit_scale=config.logit_scale)
    model, _ = with_pulse(pulse, build_model, wanted)
    if config.keep_layers is not None:
        kept = evenly(len(transformer_layers(model.encoder.backbone)), config.keep_layers)
        keep_layers(model.encoder.backbone, kept)
        model.config = replace(model.config, layers_kept=kept)
    taken: set[str] = set()
    if config.keep_layers is not None and teachers:
        loaded = with_pulse(pulse, load_model, teachers[0].folder)
        taken = _start_as(model, loaded.model)
    return model.to(best_device()), taken


@torch.no_grad()
def _start_as(model: MultiTaskModel, teacher: MultiTaskModel) -> set[str]:
    """Copy what fits from a teacher of the same backbone that has all layers.

    Returns:
        the names of the parameters that are others now.
    """
    own, other = model.config, teacher.config
    if own.backbone_sha256 != other.backbone_sha256 or other.layers_kept:
        return set()
    keep_layers(teacher.encoder.backbone, own.layers_kept)
    values, taken = dict(teacher.named_parameters()), set()
    for name, parameter in model.named_parameters():
        value = values.get(name)
        if value is None or value.shape != parameter.shape or torch.equal(value, parameter):
            continue
        parameter.copy_(value)
        taken.add(name)
    return taken


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
