"""One training run: checkpoints as it goes, the finished model put into its place at the end."""

import json
import shutil
from pathlib import Path
from typing import Any

import torch

from jobs.ledger.ledger import Ledger
from jobs.roots import check_backbone_inside, check_inside, place_inside
from jobs.settings import settings
from jobs.specs import TrainSpec
from jobs.train.data import check_unchanged, split_loader
from jobs.train.made_by import MADE_BY, files_of, finished_result, made_by
from mtl_core.config import ModelConfig, train_config
from mtl_core.errors import OutputError
from mtl_core.files import write_json
from mtl_core.model.copies import publish
from mtl_core.pulse import Pulse, with_pulse
from mtl_core.storage.bucket import Bucket
from mtl_core.storage.folder import Folder
from mtl_core.storage.place import Place
from mtl_core.tasks import Task, task_from_json
from mtl_core.training.loop import Step
from mtl_core.training.run import TrainedModel, run_training
from worker.checkpoint_copies import CheckpointCopies
from worker.lease.heartbeat import Heartbeat
from worker.process.threads import threads_of_child

CHECKPOINTS = "_checkpoints"
"""Folder beside the models of an object store; no model's name begins so."""


def train_model(
    ledger: Ledger, job: str, spec: TrainSpec, worker: str, attempt: int, heartbeat: Heartbeat
) -> dict[str, Any]:
    """Train as the spec says; resumes from the newest checkpoint of an earlier attempt.

    An attempt that finds the model an earlier one of the job has finished just says so.

    Returns:
        the result for the ledger: rows trained on, model folder, checksum and official metrics.
    Raises:
        OutputError: a model of that name appeared meanwhile.
        DataError: the data is not what it was when the job was submitted.
    """
    pulse = heartbeat.pulse
    tasks = tuple(task_from_json(task) for task in spec.tasks)
    for file in (f for task in tasks if task.source for f in task.source.files.values()):
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
    result = with_pulse(pulse, finished_result, output, job)
    if result is None:
        _demand_free(output, job)
        check_unchanged(spec.data, pulse)
        if copies is not None:
            with_pulse(pulse, copies.fetch)
        trained = _train(ledger, job, spec, tasks, building, copies, heartbeat)
        result = {"rows": trained.rows, "sha256": trained.sha256, "metrics": trained.metrics}
        heartbeat.confirm()
        _put(building, output, job, {"job": job, "files": files_of(spec), "result": result}, pulse)
    shutil.rmtree(building, ignore_errors=True)
    shutil.rmtree(checkpoints, ignore_errors=True)
    if copies is not None:
        with_pulse(pulse, copies.remove)
    return {"part": str(output), "failed": 0, "attempt": attempt, "worker": worker, **result}


def _train(
    ledger: Ledger,
    job: str,
    spec: TrainSpec,
    tasks: tuple[Task, ...],
    building: Path,
    copies: CheckpointCopies | None,
    heartbeat: Heartbeat,
) -> TrainedModel:
    """The run itself, told to the ledger as it goes on; makes a model directory."""
    note: dict[str, Any] = {}

    def tell(**fields: Any) -> None:
        note.update(fields)
        ledger.update(job, note=json.dumps(note))
        heartbeat.pulse()

    def report(step: Step) -> None:
        heartbeat.progress(step.rows)
        ledger.update(job, rows_total=step.rows_total)
        if copies is not None:
            with_pulse(heartbeat.pulse, copies.put_new)
        tell(step=step.step, steps=step.steps, epoch=step.epoch + 1, loss=round(step.loss, 4))

    data_dir = check_inside(spec.data_dir, settings()) if spec.data_dir else None
    torch.set_num_threads(threads_of_child(settings()))
    return run_training(
        train_config(spec.preset, scenario=spec.scenario, **spec.settings),
        ModelConfig(
            backbone=spec.backbone, backbone_sha256=spec.backbone_sha256 or None, tasks=tasks
        ),
        data_dir,
        building,
        name=spec.name,
        command=spec.command,
        checkpoint_dir=settings().checkpoints / job,
        load_split=split_loader(data_dir, spec.data, pulse=heartbeat.pulse),
        files=files_of(spec),
        report=report,
        stage=lambda name: tell(stage=name),
        pulse=heartbeat.pulse,
    )


def _demand_free(output: Place, job: str, when: str = "") -> None:
    """Raise OutputError if a model is there that the job did not make."""
    if not output.is_empty() and made_by(output).get("job") != job:
        raise OutputError(f"a model of another job appeared in {output}{when}")


def _put(building: Path, output: Place, job: str, said: dict[str, Any], pulse: Pulse) -> None:
    """Put a finished model into its place, with the word which job made it.

    In a store that word goes first: what an attempt that was killed half-way has left is replaced
    by the next one of the same job, and by no other.

    Raises:
        OutputError: what is there was not made by this job.
    """
    write_json(building / MADE_BY, said)
    _demand_free(output, job, f" while training; the new model is in {building}")
    if isinstance(output, Folder):
        if output.is_empty():  # else another attempt of this job was quicker
            building.rename(output.path)
    else:
        with_pulse(pulse, output.put, MADE_BY, building / MADE_BY)
        with_pulse(pulse, publish, building, output)
