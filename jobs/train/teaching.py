"""The teachers of a train job, and its texts without labels: from names to what a spec holds."""

from collections.abc import Sequence

from jobs.roots import place_inside
from jobs.settings import Settings
from jobs.specs import TeacherModel, UnlabelledFile
from mtl_core.errors import SettingsError
from mtl_core.model.registry import find_model
from mtl_core.storage.address import local_path
from mtl_core.storage.folder import Folder
from mtl_core.suggest import did_you_mean
from mtl_core.tasks import Task, demand_answers, task_from_json


def find_teachers(
    names: Sequence[str], tasks: Sequence[Task], settings: Settings
) -> tuple[TeacherModel, ...]:
    """Find models by name, path or address, and check that they answer the tasks.

    Raises:
        ModelError: there is no such model; one has other labels; none answers some task.
        SettingsError: a model lies below none of the configured roots.
    """
    found: list[TeacherModel] = []
    answering: dict[str, list[Task]] = {}
    for name in dict.fromkeys(names):
        entry = find_model(name, settings.models, settings.model_copies)
        if not isinstance(entry.home, Folder):
            place_inside(str(entry.home), settings)
        answering[name] = [task_from_json(task) for task in entry.config()["tasks"]]
        own = name.rstrip("/").rpartition("/")[2]  # the model's folder shows no folders of ours
        found.append(TeacherModel(name=own, home=str(entry.home), sha256=entry.sha256()))
    if found:
        demand_answers(answering, tasks)
    return tuple(found)


def parse_unlabelled(given: Sequence[str], tasks: Sequence[Task]) -> tuple[UnlabelledFile, ...]:
    """Read ``FILE`` or ``TASK=FILE``, as a user gives them.

    Raises:
        SettingsError: no task of that name.
    """
    names, found = [task.name for task in tasks], []
    for each in given:
        path = local_path(each).absolute()
        task, equals, rest = each.partition("=")
        if equals and not path.exists():
            if task not in names:
                hint = did_you_mean(task, names, behind=" ")
                raise SettingsError(f"no task named '{task}'; {hint}there are: {', '.join(names)}")
            path = local_path(rest).absolute()
        else:
            task = ""
        found.append(UnlabelledFile(path=str(path.resolve()), task=task))
    return tuple(found)
