"""The training loop: all tasks in every epoch, AdamW, linear schedule, cross-entropy.

Where the scenario leaves the backbone as published, each text is encoded once for the whole run
and every epoch trains on the stored pooled vectors. Where it leaves only the lower layers as
published, every epoch starts from their stored output (:mod:`mtl_core.training.kept.boundary`).

A run is a pure function of its settings, data and seed: the order of batches depends on
(seed, epoch) alone and the learning rate on the step alone, so that a run resumed from a
checkpoint goes on as if it had never stopped.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from mtl_core.config import TrainConfig
from mtl_core.data.encoded import EncodedTexts
from mtl_core.evaluation.predict import held_out_scores, predict_logits
from mtl_core.model.batches import batches_by_length
from mtl_core.model.network import BACKBONE_PREFIX, MultiTaskModel
from mtl_core.model.precision import autocast, on_device
from mtl_core.model.tokenizer import Tokenizer
from mtl_core.pulse import Pulse, no_pulse, with_pulse
from mtl_core.tasks import Task
from mtl_core.training.checkpoint import CheckpointFolder, TrainState
from mtl_core.training.kept.boundary import UpperLayers
from mtl_core.training.losses import label_loss, similarity_loss, teacher_loss
from mtl_core.training.optimizer import make_optimizer, prepare_backbone
from mtl_core.training.scenarios import apply_scenario, set_training_mode
from mtl_core.training.start import principal_components, start_projection
from mtl_core.training.tally import Tally
from mtl_core.training.weights import TrainedWeights

SIMILARITY = "similarity"
TEACHER = "teacher"
"""Keys of further losses, beside the tasks' losses, in a record of the history."""


@dataclass(frozen=True)
class Step:
    """What the loop reports to its caller at every tenth step and at the last."""

    step: int
    steps: int
    epoch: int
    """The current epoch, from 0."""
    rows: int
    """Rows trained on so far, over all epochs."""
    rows_total: int
    loss: float
    """Mean cross-entropy over the steps since the last report."""


def epoch_batches(
    tasks: Mapping[str, EncodedTexts], batch_rows: int, seed: int, epoch: int
) -> list[tuple[str, NDArray[np.int64]]]:
    """All batches of one epoch, tasks mixed at random: (task, row numbers), every row once."""
    generator = np.random.default_rng([seed, epoch])
    batches = [
        (name, rows)
        for name, encoded in tasks.items()
        for rows in batches_by_length(encoded.lengths, batch_rows, generator)
    ]
    return [batches[index] for index in generator.permutation(len(batches))]


def linear_schedule(step: int, steps: int, warmup_fraction: float) -> float:
    """Factor on the learning rate before step ``step``: linear rise, then linear fall to 0."""
    warmup = math.floor(steps * warmup_fraction)
    if step < warmup:
        return (step + 1) / (warmup + 1)
    return max(0.0, (steps - step) / max(1, steps - warmup))


def prepare(
    model: MultiTaskModel, training: Mapping[str, EncodedTexts], config: TrainConfig, pulse: Pulse
) -> list[str]:
    """Freeze, set dropout and start the projection as the settings say.

    Returns:
        the names of the parameters that are trained.
    """
    trained = apply_scenario(model, config)
    prepare_backbone(model.encoder.backbone, config.dropout)
    projection = model.encoder.projection
    pooled = [e.pooled for e in training.values() if e.pooled is not None]
    starts = config.projection_start == "components" and projection.weight.requires_grad
    if starts and len(pooled) == len(training):
        start_projection(projection, with_pulse(pulse, principal_components, pooled))
    return trained


class TrainingLoop:
    """One run over (model, data, settings); :meth:`run` resumes if there is a checkpoint."""

    def __init__(
        self,
        model: MultiTaskModel,
        tokenizer: Tokenizer,
        training: Mapping[str, EncodedTexts],
        held_out: Mapping[str, EncodedTexts],
        config: TrainConfig,
        checkpoints: CheckpointFolder | None = None,
        report: Callable[[Step], None] = lambda step: None,
        similarity: Callable[[], dict[str, Any] | None] = lambda: None,
        pulse: Pulse = no_pulse,
    ) -> None:
        self.model, self.tokenizer, self.config = model, tokenizer, config
        self.training, self.held_out = training, held_out
        self.checkpoints, self.report, self.similarity = checkpoints, report, similarity
        self.pulse = pulse
        self.trained = prepare(model, training, config, pulse)
        self.from_pooled = all(e.pooled is not None for e in training.values()) and not any(
            name.startswith(BACKBONE_PREFIX) for name in self.trained
        )
        self.history: list[dict[str, Any]] = []
        self._tally = Tally(training, (SIMILARITY, TEACHER))
        per_epoch = sum(math.ceil(len(e.ids) / config.batch_rows) for e in training.values())
        self.steps = per_epoch * config.epochs if self.trained else 0
        self.rows_total = sum(len(e.ids) for e in training.values()) * config.epochs
        self._rows = 0
        self.optimizer = make_optimizer(model, config) if self.trained else None
        self._weights = TrainedWeights(model, self.trained, average=bool(config.average_share))

    def run(self) -> list[dict[str, Any]]:
        """Train to the end; the model then has the averaged weights if the settings ask for them.

        Returns:
            one record for each epoch: ``epoch`` from 1, ``step``, mean ``loss`` by task and of
            ``similarity``, ``held_out`` metrics by task, and ``stsb``, what ``similarity`` gives. A
            run with nothing to train has one record, without losses.
        Raises:
            ModelError: the training diverged.
        """
        if self.optimizer is None:
            return [{"epoch": 0, "step": 0, "loss": {}, **self._scores()}]
        done = self._resume()
        step = 0
        for epoch in range(self.config.epochs):
            batches = epoch_batches(self.training, self.config.batch_rows, self.config.seed, epoch)
            if step + len(batches) <= done:  # finished before the interruption
                step += len(batches)
                self._rows += sum(len(rows) for _, rows in batches)
                continue
            step = self._run_epoch(epoch, batches, step, done)
        self._weights.take_average()
        return self.history

    def _run_epoch(
        self, epoch: int, batches: list[tuple[str, NDArray[np.int64]]], step: int, done: int
    ) -> int:
        set_training_mode(self.model)
        for task, rows in batches:
            step += 1
            self._rows += len(rows)
            if step <= done:
                continue
            self.pulse()
            self._train_step(task, rows, step)
            if step == self.steps or step % 10 == 0:
                mean = self._tally.read()
                self.report(Step(step, self.steps, epoch, self._rows, self.rows_total, mean))
            # The epoch's last step is saved below, once its record is in the history.
            if step % self.config.checkpoint_steps == 0 and rows is not batches[-1][1]:
                self._checkpoint(step)
        self._tally.read()
        self.history.append(
            {"epoch": epoch + 1, "step": step, "loss": self._tally.means(), **self._scores()}
        )
        self._tally.clear()
        self._checkpoint(step)
        return step

    def _train_step(self, task: str, rows: NDArray[np.int64], step: int) -> None:
        assert self.optimizer is not None
        factor = linear_schedule(step - 1, self.steps, self.config.warmup_fraction)
        for group in self.optimizer.param_groups:
            group.setdefault("initial_lr", group["lr"])
            group["lr"] = group["initial_lr"] * factor
        encoded = self.training[task]
        with autocast(self.model, self.config.precision):
            embedding = self._embed(encoded, rows)
        logits = self.model.head_logits(embedding, task).float()
        labels = on_device(torch.from_numpy(encoded.data.labels[rows]), logits.device)
        smoothing, alone = self.config.label_smoothing, encoded.soft is None
        loss = cross_entropy = label_loss(logits, labels, smoothing, all_labelled=alone)
        if encoded.soft is not None:
            soft = self._on_device(encoded.soft[rows])
            distance = teacher_loss(logits, soft, self.config.teacher_temperature)
            share = self.config.teacher_weight
            loss = (1 - share) * cross_entropy + share * distance
            self._tally.add(TEACHER, step, distance)
        loss = loss * self._weight(encoded.data.task)
        if self.config.similarity_weight and encoded.reference is not None:
            reference = self._on_device(encoded.reference[rows])
            similarity = similarity_loss(embedding, reference)
            loss = loss + self.config.similarity_weight * similarity
            self._tally.add(SIMILARITY, step, similarity)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_([p for p in self.model.parameters() if p.requires_grad], 1.0)
        self.optimizer.step()
        # Until the window is full, the average is the plain mean of all steps so far.
        window = max(1.0, self.config.average_share * self.steps)
        self._weights.update_average(max(1 / window, 1 / step))
        self._tally.add(task, step, cross_entropy, loss)

    def _weight(self, task: Task) -> float:
        """Factor on a task's loss."""
        if self.config.frozen_weights and task.frozen_weight is not None:
            return task.frozen_weight
        return task.weight

    def _embed(self, encoded: EncodedTexts, rows: NDArray[np.int64]) -> Tensor:
        """Embeddings of a batch, float32 [B, E]."""
        return self.model.encoder.project(
            F.dropout(self._pool(encoded, rows), self.config.pooled_dropout)
        )

    def _pool(self, encoded: EncodedTexts, rows: NDArray[np.int64]) -> Tensor:
        """Pooled vectors of a batch by the model in its present state, float32 [B, H]."""
        if self.from_pooled:
            return self._pooled(encoded, rows)
        device = self.model.encoder.projection.weight.device
        if (kept := encoded.activations) is not None:
            states, mask = kept.padded(rows)
            upper = UpperLayers(self.model.encoder, kept.layer)
            return upper.pool(on_device(states, device), on_device(mask, device))
        input_ids, mask = self.tokenizer.pad(encoded.ids.take(rows))
        input_ids = self.tokenizer.mask_at_random(input_ids, self.config.token_masking)
        return self.model.encoder.pool(on_device(input_ids, device), on_device(mask, device))

    def _pooled(self, encoded: EncodedTexts, rows: NDArray[np.int64]) -> Tensor:
        """Kept pooled vectors of a batch, by the backbone as published, float32 [B, H]."""
        assert encoded.pooled is not None
        return self._on_device(encoded.pooled[rows])

    def _on_device(self, values: NDArray[np.float16]) -> Tensor:
        """Values as float32 where the model is."""
        device = self.model.encoder.projection.weight.device
        return on_device(torch.from_numpy(values.astype(np.float32)), device)

    def _scores(self) -> dict[str, Any]:
        with self._weights.averaged():
            return held_out_scores(
                *(self.model, self.held_out, self.config.precision),
                similarity=self.similarity,
                from_pooled=self.from_pooled,
                pulse=self.pulse,
            )

    def held_out_logits(self, task: str) -> NDArray[np.float32]:
        """Logits of a task's held-out rows, float32 [N, C]."""
        return predict_logits(
            *(self.model, self.tokenizer, task, self.held_out[task], self.config.precision),
            from_pooled=self.from_pooled,
            pulse=self.pulse,
        )

    def _checkpoint(self, step: int) -> None:
        if self.checkpoints is None or self.optimizer is None:
            return
        self._tally.read()  # weights that diverged are no place to go on from
        tensors = {**_random_states(), **self._weights.tensors(self.optimizer)}
        state = TrainState(step, tensors, self.history, self._tally.losses())
        with_pulse(self.pulse, self.checkpoints.save, state)

    def _resume(self) -> int:
        """Take up the newest valid checkpoint; returns the steps already taken."""
        state = self.checkpoints.newest() if self.checkpoints is not None else None
        if state is None or self.optimizer is None:
            return 0
        tensors = dict(state.tensors)
        torch.set_rng_state(tensors.pop("random_state"))
        on_gpu = tensors.pop("random_state_cuda", None)
        if on_gpu is not None and torch.cuda.is_available():
            torch.cuda.set_rng_state(on_gpu)
        self._weights.restore(self.optimizer, tensors)
        self.history = list(state.history)
        self._tally.restore(state.losses)
        return state.step


def _random_states() -> dict[str, Tensor]:
    """The states of torch's random generators: the CPU's, and that of a GPU, which drops out."""
    found = {"random_state": torch.get_rng_state()}
    if torch.cuda.is_available():
        found["random_state_cuda"] = torch.cuda.get_rng_state()
    return found
