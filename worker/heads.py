"""A job that trains heads alone."""

from pathlib import Path

from jobs.output.layout import require_finished
from jobs.roots import place_inside
from jobs.settings import settings
from jobs.specs import TrainSpec
from jobs.train.heads import labels_to_train, rows_to_train_on
from jobs.train.made_by import files_of
from mtl_core.pulse import Pulse, with_pulse
from mtl_core.tasks import task_from_json
from mtl_core.training.new_heads import NewHeads
from mtl_core.training.run import TrainedModel
from worker.engines import folder_as_submitted


def train_heads(spec: TrainSpec, building: Path, pulse: Pulse) -> TrainedModel:
    """Make the model directory in ``building``.

    Raises:
        DataError: the rows of a new task do not tell its labels apart.
        InputError: the output whose rows were checked is not whole any more.
        ModelError: the model has changed since the job was submitted.
        SettingsError: the output or the model lies outside the configured roots.
    """
    assert spec.start is not None
    folder = folder_as_submitted(spec.start, pulse)
    output = place_inside(spec.checked, settings(), settings().store_patience_s)
    require_finished(output)
    tasks = tuple(map(task_from_json, spec.tasks))
    labels = labels_to_train(tasks, spec.only_tasks)
    checked = with_pulse(pulse, rows_to_train_on, output, list(map(Path, spec.add)), labels)
    rows = {task: found.number for task, found in checked.items()}
    facts = {
        "command": spec.command,
        "data": "checked rows",
        "rows": {task.name: rows.get(task.name, 0) for task in tasks},
        "files": files_of(spec),
        "scenario": spec.scenario,
        "from": {spec.start.sha256: spec.start.name},
        **spec.settings,
    }
    seed = int(spec.settings.get("seed") or 0)
    run = NewHeads(folder, tasks, checked, building, spec.name, facts, seed, pulse)
    return TrainedModel(building, run.run(), sum(rows.values()), {})
