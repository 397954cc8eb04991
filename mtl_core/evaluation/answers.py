"""What a model answers to texts, by the labelling engine or by the model in memory.

Every figure of an evaluation is made from these answers, whichever of the two gave them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from mtl_core.config import ModelConfig
from mtl_core.engine.base import Engine
from mtl_core.engine.choose import choose_precision
from mtl_core.errors import ModelError
from mtl_core.model.encoder import embed
from mtl_core.model.network import MultiTaskModel
from mtl_core.pulse import Pulse, no_pulse


@dataclass(frozen=True)
class Answers:
    """What a model answers to N texts, in the order given."""

    logits: dict[str, NDArray[np.float32]]
    """By task, logits before calibration, float32 [N, C]. A row may be shifted by a constant, which
    changes no probability."""
    embeddings: NDArray[np.float32]
    """Unit vectors, float32 [N, E]."""


class Answering(Protocol):
    """A model that answers texts."""

    engine: str
    """Name of what computes: ``torch`` or ``openvino``."""
    precision: str
    """The number format it computes in, never ``auto``."""

    @property
    def config(self) -> ModelConfig:
        """The model's structure, tasks and calibration."""
        ...

    def answer(self, texts: Sequence[str]) -> Answers:
        """Answer N texts, each cut to what the model reads."""
        ...


class EngineAnswers:
    """Answers by the engine that labels on this machine."""

    def __init__(self, engine: Engine, pulse: Pulse = no_pulse) -> None:
        self.engine, self.precision = engine.name, engine.precision
        self._engine, self._pulse = engine, pulse

    @property
    def config(self) -> ModelConfig:
        return self._engine.config

    def answer(self, texts: Sequence[str]) -> Answers:
        """Answer N texts.

        An engine gives calibrated probabilities p = softmax(logits / T). Their logarithm times T is
        the logits up to a constant in each row. A probability that float32 holds as 0 counts as the
        least normal number, e^-87.

        Raises:
            ModelError: an answer is no number, or a text is too large for this machine's memory.
        """
        try:
            labelled = self._engine.label(texts, lambda done: self._pulse())
        except FloatingPointError as error:
            raise ModelError(str(error)) from error
        if labelled.too_large:
            raise ModelError(
                f"{len(labelled.too_large):,} of {len(texts):,} texts are too large for memory; "
                "evaluate on a machine that has more"
            )
        least = np.finfo(np.float32).tiny
        logits = {
            each.task.name: np.log(np.maximum(each.probabilities, least))
            * np.float32(self.config.calibration_of(each.task.name).temperature)
            for each in labelled.labels
        }
        return Answers(logits, labelled.embeddings)


class ModelAnswers:
    """Answers by a model in memory, as a training run has it at its end."""

    engine = "torch"

    def __init__(
        self, model: MultiTaskModel, precision: str = "auto", pulse: Pulse = no_pulse
    ) -> None:
        self.precision = choose_precision("torch", precision)
        self._model, self._pulse = model, pulse

    @property
    def config(self) -> ModelConfig:
        return self._model.config

    def answer(self, texts: Sequence[str]) -> Answers:
        encoder, tokenizer = self._model.encoder, self._model.tokenizer
        embeddings = embed(encoder, tokenizer, tokenizer(texts), self.precision, self._pulse)
        device = encoder.projection.weight.device
        with torch.inference_mode():
            on_device = torch.from_numpy(embeddings).to(device)
            logits = {
                task.name: self._model.head_logits(on_device, task.name).float().cpu().numpy()
                for task in self.config.tasks
            }
        return Answers(logits, embeddings)
