"""Prepare what the training loop takes from a task's files: rows, token ids, kept vectors."""

import hashlib
import logging
import shutil
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from mtl_core.config import TrainConfig
from mtl_core.data.draws import balance_classes, sample_rows, split_held_out, weigh_checked
from mtl_core.data.encoded import Activations, EncodedTexts, encode_texts
from mtl_core.data.overlap import without_copies
from mtl_core.data.splits import LabelledTexts, LoadSplit
from mtl_core.model.encoder import BATCH_TOKENS
from mtl_core.model.network import BACKBONE_PREFIX, MultiTaskModel
from mtl_core.model.tokenizer import Tokenizer
from mtl_core.pulse import Pulse, no_pulse
from mtl_core.tasks import Task
from mtl_core.token_ids import starts_of
from mtl_core.training.checkpoint import run_tag
from mtl_core.training.kept.arrays import made
from mtl_core.training.kept.boundary import UpperLayers, frozen_layers
from mtl_core.training.kept.published import Pass, published_pass, write_published
from mtl_core.training.kept.teacher import SoftLabels
from mtl_core.training.scenarios import apply_scenario

log = logging.getLogger(__name__)

Splits = dict[str, tuple[LabelledTexts, LabelledTexts]]
"""By task, the rows to train on and those held out."""


def training_split(
    task: Task,
    config: TrainConfig,
    load_split: LoadSplit,
    added: LabelledTexts | None = None,
    pulse: Pulse = no_pulse,
) -> tuple[LabelledTexts, LabelledTexts]:
    """One task's rows to train on and rows held out, as the settings say.

    Rows are held out of the task's own split alone. Unless the settings keep them, rows that are
    copies of an evaluation row are left out, and added ones that are copies of a held-out row.
    Added rows that were checked by hand are all trained on, each several times.

    Args:
        added: further rows to train on.
    Raises:
        DataError: the split is missing or malformed, or too small to hold rows out of.
    """
    data = load_split(task, task.source.train_split if task.source else "train")
    evaluated: list[str] = []
    if not config.keep_overlap and task.source is not None and task.source.has_official_split:
        evaluated = load_split(task, task.source.evaluation_split).texts
        data = without_copies(data, evaluated, "evaluation", pulse)
    data = sample_rows(data, config.max_rows_per_task, config.seed)
    train, held_out = split_held_out(data, config.held_out_fraction, config.seed, pulse)
    checked = None
    if added is not None:
        if not config.keep_overlap:
            added = without_copies(added, evaluated, "evaluation", pulse)
            added = without_copies(added, held_out.texts, "held-out", pulse)
        added, checked = added.parted()
        train = sample_rows(train.joined(added), config.max_rows_per_task, config.seed)
    if config.balance_classes:
        train = balance_classes(train, config.seed)
    if checked is not None and len(checked):
        train = train.joined(weigh_checked(checked, len(train)))
    return replace(train, checked=None), held_out


def encode_splits(
    splits: Splits,
    model: MultiTaskModel,
    tokenizer: Tokenizer,
    config: TrainConfig,
    scratch: Path,
    taught: Mapping[str, SoftLabels],
    pulse: Pulse = no_pulse,
) -> tuple[dict[str, EncodedTexts], dict[str, EncodedTexts]]:
    """Tokenise all rows, and keep the backbone's outputs where the run uses them.

    Pooled vectors of the backbone as published are kept of all rows to train on: suspected label
    errors are found by them. They are also the features where the backbone stays as it is, and the
    reference of the similarity loss. Where the backbone has lost layers and the run has a teacher,
    none are kept, and the reference is the teacher's embeddings. Activations are used where the
    backbone's lower layers stay as published. A run that trains nothing keeps none.

    Args:
        taught: by task, what the run's teachers say of the rows to train on.
    Returns:
        the rows to train on and the rows held out, each by task.
    """
    trained = apply_scenario(model, config)
    features = bool(trained) and not any(name.startswith(BACKBONE_PREFIX) for name in trained)
    by_teacher = bool(model.config.layers_kept and taught)
    layer = cut_at(model, tokenizer, trained, splits)
    encoded = {
        name: [encode_texts(data, tokenizer, config.max_tokens, pulse) for data in split]
        for name, split in splits.items()
    }
    tokens = sum(int(e.lengths.sum()) for pair in encoded.values() for e in pair)
    store = Store(model, tokenizer, config, scratch, layer, tokens, pulse)
    training, held_out = {}, {}
    for name, (train, kept) in encoded.items():
        if layer:
            train = store.with_activations(train, f"{name}-train")
        train = store.with_pooled(train, f"{name}-train") if trained and not by_teacher else train
        soft = taught.get(name)
        refers = trained and config.similarity_weight
        reference = soft.embeddings if soft is not None and by_teacher else train.pooled
        training[name] = replace(
            train,
            soft=soft.probabilities if soft is not None else None,
            reference=reference if refers else None,
        )
        held_out[name] = store.with_pooled(kept, f"{name}-held-out") if features else kept
    return training, held_out


def cut_at(
    model: MultiTaskModel,
    tokenizer: Tokenizer,
    trained: Collection[str],
    splits: Splits,
) -> int:
    """The layer whose input is kept for the whole run; 0 if none is."""
    layer = frozen_layers(model, trained)
    sample = [text for split in splits.values() for text in split[1].texts[:4]]
    if layer and not UpperLayers(model.encoder, layer).agrees(tokenizer, tokenizer(sample)):
        log.info("this backbone cannot be run from layer %d upwards: nothing is kept", layer)
        return 0
    return layer


@dataclass(frozen=True)
class Store:
    """Keeps outputs of the backbone, which are computed once, in files of a folder.

    A file that an interrupted run with the same rows and backbone left there is used again.
    """

    model: MultiTaskModel
    tokenizer: Tokenizer
    config: TrainConfig
    folder: Path
    layer: int
    """The layer whose input is kept; 0: none."""
    tokens: int
    """About how many tokens all rows of the run have."""
    pulse: Pulse = no_pulse

    @cached_property
    def run(self) -> Pass:
        """The backbone as published, ready to run; made at the first use."""
        return published_pass(
            *(self.model.encoder, self.tokenizer, self.config.precision),
            *(self.layer, self.tokens, self.pulse),
        )

    def with_pooled(self, encoded: EncodedTexts, part: str) -> EncodedTexts:
        """Add the pooled vectors of a part of a task's rows."""
        path = self._path(encoded, part)
        if not path.is_file():
            with made(path) as building:
                self._write(encoded, building)
        return replace(encoded, pooled=np.load(path, mmap_mode="r"))

    def with_activations(self, encoded: EncodedTexts, part: str) -> EncodedTexts:
        """Add what enters the layer; the same pass writes the pooled vectors, too.

        If the disk has less than twice the room for it, the rows are returned as they are. The run
        then computes the lower layers in every epoch.
        """
        path, pooled = self._path(encoded, f"{part}-layer-{self.layer}"), self._path(encoded, part)
        if not path.is_file():
            size = int(encoded.lengths.sum()) * self.model.encoder.projection.in_features * 2
            self.folder.mkdir(parents=True, exist_ok=True)
            if size * 2 > shutil.disk_usage(self.folder).free:
                log.warning("no room to keep %d MB of activations in %s", size >> 20, self.folder)
                return encoded
            with made(path) as building, made(pooled) as building_pooled:
                self._write(encoded, building_pooled, building)
        values = np.load(path, mmap_mode="r")
        kept = Activations(self.layer, values, starts_of(encoded.lengths), encoded.lengths)
        return replace(encoded, activations=kept)

    def _write(self, encoded: EncodedTexts, pooled: Path, activations: Path | None = None) -> None:
        projection = self.model.encoder.projection
        write_published(
            *(self.run, self.tokenizer, encoded.ids, projection.in_features, pooled, activations),
            pulse=self.pulse,
            batch_tokens=BATCH_TOKENS[projection.weight.device.type],
        )

    def _path(self, encoded: EncodedTexts, part: str) -> Path:
        # Named by the tokens themselves: the same job may meet other rows if its data was changed.
        tokens = hashlib.sha256(encoded.lengths.tobytes())
        tokens.update(encoded.ids.values.tobytes())
        identity = [
            self.model.config.backbone_sha256,
            self.config.precision,
            tokens.hexdigest(),
        ]
        return self.folder / f"{part}-{run_tag({'of': identity})}.npy"
