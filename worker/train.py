"""One training run: checkpoints as it goes, the finished model put into its place at the end."""

import json
import shutil
from collections.abc import Callable
from typing import Any

import torch

from jobs.ledger import Ledger
from jobs.roots import check_backbone_inside, check_inside, place_inside
from jobs.settings import settings
from jobs.specs import TrainSpec
from mtl_core.bucket import Bucket
from mtl_core.config import ModelConfig, train_config
from mtl_core.errors import OutputError
from mtl_core.model_copy import publish
from mtl_core.place import Folder
from mtl_core.tasks import task_from_json
from mtl_core.train import Step
from mtl_core.train_run import run_training
from worker.checkpoint_copies import CheckpointCopies
from worker.threads import threads_of_child

CHECKPOINTS = "_checkpoints"
"""Folder beside the models of an object store; no model's name begins so."""


def train_model(
    ledger: Ledger,
    job: str,
    spec: TrainSpec,
    worker: str,
    attempt: int,
    progress: Callable[[int], None],
    publishing: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """Train as the spec says; resumes from the newest checkpoint of an earlier attempt.

    Args:
        publishing: called before the model takes its place; an exception it raises prevents that.
    Returns:
        the result for the ledger: rows trained on, model folder, checksum and official metrics.
    Raises:
        OutputError: a model of that name appeared meanwhile.
    """
    note: dict[str, Any] = {}
    rows = 0

    def tell(**fields: Any) -> None:
        note.update(fields)
        ledger.update(job, note=json.dumps(note))
        progress(rows)

    def report(step: Step) -> None:
        nonlocal rows
        rows = step.rows
        ledger.update(job, rows_total=step.rows_total)
        if copies is not None:
            copies.put_new()
        tell(step=step.step, steps=step.steps, epoch=step.epoch + 1, loss=round(step.loss, 4))

    def stage(name: str) -> None:
        tell(stage=name)

    tasks = tuple(task_from_json(task) for task in spec.tasks)
    for task in tasks:
        for file in task.source.files.values() if task.source else ():
            check_inside(file, settings())
    check_backbone_inside(spec.backbone, settings())
    output = place_inside(spec.output, settings(), settings().store_patience_s)
    checkpoints = settings().checkpoints / job
    copies: CheckpointCopies | None = None
    if isinstance(output, Folder):
        building = output.path.with_name(f".{output.path.name}.{job}")
    else:
        assert isinstance(output, Bucket)
        building = settings().state_dir / "building" / job
        copies = CheckpointCopies(checkpoints, output.beside(f"{CHECKPOINTS}/{job}"))
        copies.fetch()
    torch.set_num_threads(threads_of_child(settings()))
    trained = run_training(
        train_config(spec.preset, scenario=spec.scenario, **spec.settings),
        ModelConfig(backbone=spec.backbone, tasks=tasks),
        check_inside(spec.data_dir, settings()) if spec.data_dir else None,
        building,
        name=spec.name,
        command=spec.command,
        checkpoint_dir=checkpoints,
        report=report,
        stage=stage,
    )
    publishing()
    if not output.is_empty():
        raise OutputError(f"{output} appeared while training; the new model is in {building}")
    if isinstance(output, Folder):
        building.rename(output.path)
    else:
        publish(building, output)
        shutil.rmtree(building, ignore_errors=True)
    shutil.rmtree(checkpoints, ignore_errors=True)
    if copies is not None:
        copies.remove()
    return {
        "part": str(output),
        "rows": trained.rows,
        "failed": 0,
        "sha256": trained.sha256,
        "attempt": attempt,
        "worker": worker,
        "metrics": trained.metrics,
    }
