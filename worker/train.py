"""One training run: checkpoints as it goes, the finished model put into its place at the end."""

import json
import shutil
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import torch

from jobs.ledger.ledger import Ledger
from jobs.roots import check_backbone_inside, check_inside, place_inside
from jobs.settings import settings
from jobs.specs import InputFile, TeacherModel, TrainSpec
from jobs.train.data import check_unchanged, load_added, load_unlabelled, split_loader
from jobs.train.made_by import MADE_BY, files_of, finished_result, made_by
from mtl_core.config import ModelConfig, train_config
from mtl_core.errors import OutputError
from mtl_core.files import write_json
from mtl_core.model.config import read_model_config
from mtl_core.model.copies import publish
from mtl_core.pulse import Pulse, with_pulse
from mtl_core.storage.bucket import Bucket
from mtl_core.storage.folder import Folder
from mtl_core.storage.place import Place
from mtl_core.tasks import task_from_json
from mtl_core.training.kept.teacher import Teacher
from mtl_core.training.loop import Step
from mtl_core.training.run import TrainedModel, TrainingRun
from mtl_core.training.scenario_names import HEADS
from worker.checkpoint_copies import CheckpointCopies
from worker.engines import engine_for, folder_as_submitted
from worker.heads import train_heads
from worker.lease.attempt import Attempt
from worker.lease.heartbeat import Heartbeat
from worker.process.threads import threads_of_child

CHECKPOINTS = "_checkpoints"
"""Folder beside the models of an object store; no model's name begins with ``_``."""


@dataclass(frozen=True)
class Places:
    """Where the files of a run lie."""

    output: Place
    """Place of the finished model."""
    building: Path
    """Folder of the model until it is finished."""
    checkpoints: Path
    copies: CheckpointCopies | None
    """Copies of checkpoints in an object store, for an attempt on another machine, or None."""


def train_model(ledger: Ledger, attempt: Attempt, heartbeat: Heartbeat) -> dict[str, Any]:
    """Train as the spec says; resume from the newest checkpoint of an earlier attempt.

    If an earlier attempt of the job has finished the model already, only its result is returned.

    Returns:
        the result for the ledger: rows trained on, model folder, checksum and official metrics.
    Raises:
        OutputError: a model of another job appeared in the output meanwhile.
        DataError: the data is not what it was when the job was submitted.
        SettingsError: what the run reads or writes lies outside the configured roots.
    """
    job, spec, pulse = attempt.job, attempt.spec, heartbeat.pulse
    assert isinstance(spec, TrainSpec)
    torch.set_num_threads(threads_of_child(settings()))
    data_dir = _data_inside(spec)
    places = _places(spec, job)
    result = with_pulse(pulse, finished_result, places.output, job)
    if result is None:
        _demand_free(places.output, job)
        check_unchanged(spec.data, pulse)
        if places.copies is not None:
            with_pulse(pulse, places.copies.fetch)
        teller = Teller(ledger, job, places.copies, heartbeat)
        trained = _train(spec, data_dir, places, teller, pulse)
        result = {"rows": trained.rows, "sha256": trained.sha256, "metrics": trained.metrics}
        heartbeat.confirm()
        _put(places, job, {"job": job, "files": files_of(spec), "result": result}, pulse)
    _clear(places, pulse)
    told = {"attempt": attempt.number, "worker": attempt.worker}
    return {"part": str(places.output), "failed": 0, **told, **result}


def _data_inside(spec: TrainSpec) -> Path | None:
    """Check that what the run reads lies inside the configured roots; return the data folder.

    Raises:
        SettingsError: something that the run reads lies outside.
    """
    own = [task.source.files.values() for task in map(task_from_json, spec.tasks) if task.source]
    for file in (*chain(*own), *spec.add, *(each.path for each in spec.unlabelled)):
        check_inside(file, settings())
    check_backbone_inside(spec.backbone, settings())
    return check_inside(spec.data_dir, settings()) if spec.data_dir else None


def _described(spec: TrainSpec) -> dict[str, InputFile]:
    return {file.path: file for file in spec.data}


def _teacher(model: TeacherModel, pulse: Pulse) -> Teacher:
    """A teacher on this machine.

    Raises:
        SettingsError, ModelError: as :func:`worker.engines.folder_as_submitted`.
    """
    folder = folder_as_submitted(model, pulse)
    tasks = read_model_config(folder).tasks
    return Teacher(
        model.name, model.sha256, tasks, partial(engine_for, folder, pulse=pulse), folder
    )


def _places(spec: TrainSpec, job: str) -> Places:
    output = place_inside(spec.output, settings(), settings().store_patience_s)
    checkpoints = settings().checkpoints / job
    if isinstance(output, Folder):
        building = output.path.with_name(f".{output.path.name}.{job}")
        return Places(output, building, checkpoints, None)
    assert isinstance(output, Bucket)
    copies = CheckpointCopies(checkpoints, output.beside(f"{CHECKPOINTS}/{job}"))
    return Places(output, settings().state_dir / "building" / job, checkpoints, copies)


def _clear(places: Places, pulse: Pulse) -> None:
    """Remove what only an unfinished run needs."""
    shutil.rmtree(places.building, ignore_errors=True)
    shutil.rmtree(places.checkpoints, ignore_errors=True)
    if places.copies is not None:
        with_pulse(pulse, places.copies.remove)


@dataclass(frozen=True)
class Teller:
    """Tells the ledger how far a run is."""

    ledger: Ledger
    job: str
    copies: CheckpointCopies | None
    heartbeat: Heartbeat
    note: dict[str, Any] = field(default_factory=dict)
    """What was told so far; of each field the last value."""

    def stage(self, name: str) -> None:
        """Tell which part of the run begins."""
        self._tell(stage=name)

    def report(self, step: Step) -> None:
        """Tell how far the run is; copy new checkpoints before."""
        self.heartbeat.progress(step.rows)
        self.ledger.update(self.job, rows_total=step.rows_total)
        if self.copies is not None:
            with_pulse(self.heartbeat.pulse, self.copies.put_new)
        loss = round(step.loss, 4)
        self._tell(step=step.step, steps=step.steps, epoch=step.epoch + 1, loss=loss)

    def _tell(self, **fields: Any) -> None:
        self.note.update(fields)
        self.ledger.update(self.job, note=json.dumps(self.note))
        self.heartbeat.pulse()


def _train(
    spec: TrainSpec, data_dir: Path | None, places: Places, teller: Teller, pulse: Pulse
) -> TrainedModel:
    """Run the training; it makes the model directory in ``places.building``."""
    if spec.scenario == HEADS:
        teller.stage("train")
        return train_heads(spec, places.building, pulse)
    tasks = tuple(map(task_from_json, spec.tasks))
    files = _described(spec)
    return TrainingRun(
        train_config(spec.preset, scenario=spec.scenario, **spec.settings),
        ModelConfig(
            backbone=spec.backbone, backbone_sha256=spec.backbone_sha256 or None, tasks=tasks
        ),
        data_dir,
        places.building,
        name=spec.name,
        command=spec.command,
        checkpoint_dir=places.checkpoints,
        load_split=split_loader(data_dir, spec.data, pulse=pulse),
        load_added=partial(load_added, files=[files[path] for path in spec.add], pulse=pulse),
        teachers=[_teacher(each, pulse) for each in spec.teachers],
        load_unlabelled=partial(
            load_unlabelled, unlabelled=spec.unlabelled, files=spec.data, pulse=pulse
        ),
        files=files_of(spec),
        report=teller.report,
        stage=teller.stage,
        pulse=pulse,
    ).run()


def _demand_free(output: Place, job: str, when: str = "") -> None:
    """Raise OutputError if a model is there that the job did not make."""
    if not output.is_empty() and made_by(output).get("job") != job:
        raise OutputError(f"a model of another job appeared in {output}{when}")


def _put(places: Places, job: str, said: dict[str, Any], pulse: Pulse) -> None:
    """Put a finished model into its place, with a file that says which job made it.

    In a store that file goes first. If the attempt is then killed half-way, the next attempt of the
    same job replaces what it left, and no other job does.

    Raises:
        OutputError: the output holds a model that this job did not make.
    """
    building, output = places.building, places.output
    write_json(building / MADE_BY, said)
    _demand_free(output, job, f" while training; the new model is in {building}")
    if isinstance(output, Folder):
        if output.is_empty():  # else another attempt of this job was quicker
            building.rename(output.path)
    else:
        with_pulse(pulse, output.put, MADE_BY, building / MADE_BY)
        with_pulse(pulse, publish, building, output)
