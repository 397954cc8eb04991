"""Score a trained model again, as its run did at its end."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any

from mtl_core.config import TrainConfig
from mtl_core.data import splits as data
from mtl_core.data.splits import LoadSplit
from mtl_core.data.stsb import Pairs, load_pairs
from mtl_core.errors import DataError
from mtl_core.evaluation.answers import Answering
from mtl_core.evaluation.evaluate import Evaluation, evaluate_model
from mtl_core.evaluation.similarity import correlation
from mtl_core.tasks import Task, any_own_files
from mtl_core.training.preparation import Splits, training_split


def evaluate_trained(
    model: Answering,
    data_dir: Path | None,
    training: Mapping[str, Any],
    *,
    load_split: LoadSplit | None = None,
    report: Callable[[str], None] = lambda task: None,
) -> Evaluation:
    """Score a trained model on each task's official split, or on the rows that its run held out.

    If the training data is there, the metrics also say how the model does on evaluation rows that
    share no run of eight words with it.

    Args:
        model: gives the model's answers, those of the labelling engine for example.
        training: the run's settings as the model's ``config.json`` holds them.
        load_split: as for a :class:`TrainingRun`.
    Raises:
        DataError, ModelError: as :func:`mtl_core.evaluation.evaluate.evaluate_model`.
    """
    load_split = load_split or partial(data.load_split, data_dir=data_dir)
    known = {each.name for each in fields(TrainConfig)}
    settings = {key: value for key, value in training.items() if key in known}
    # Earlier versions left no copies of evaluation rows out.
    config = TrainConfig(**{"keep_overlap": True, **settings})
    tasks = [task for task in model.config.tasks if task.source is not None]
    splits = _splits_there(tasks, config, load_split)
    complete = len(splits) == len(tasks) and config.scenario != "frozen"
    pairs = load_pairs(data_dir, ask_hub=not any_own_files(tasks))
    return evaluate_model(
        model,
        load_split,
        held_out={name: split[1] for name, split in splits.items()},
        trained_on={name: split[0] for name, split in splits.items()} if complete else None,
        zero_shot=config.scenario == "frozen",
        similarity=partial(_similarity_of, model, pairs),
        report=report,
    )


def _similarity_of(model: Answering, pairs: Pairs | None) -> dict[str, Any] | None:
    """Spearman's correlation of a model's embeddings on STS-B; None without its data."""
    return None if pairs is None else correlation(model.answer(pairs.texts).embeddings, pairs)


def _splits_there(tasks: Sequence[Task], config: TrainConfig, load_split: LoadSplit) -> Splits:
    """Load the splits of the tasks whose training data is there.

    Raises:
        DataError: the training data of a task without an official split is not there.
    """
    splits = {}
    for task in tasks:
        try:
            splits[task.name] = training_split(task, config, load_split)
        except DataError:  # the training data need not be there to score a model
            if task.source is None or not task.source.has_official_split:
                raise
    return splits
