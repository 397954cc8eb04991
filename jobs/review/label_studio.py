"""Label Studio's JSON: tasks to import there, and an export of it read back.

The form is https://labelstud.io/guide/task_format; what it calls a task is a row here.
"""

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.sax.saxutils import quoteattr

from mtl_core.errors import InputError
from mtl_core.storage.parquet import ROW_ID

TEXT = "Text"
"""Name of the interface's text; it is no task's, for these have no capitals."""


def interface(tasks: Mapping[str, Sequence[str]]) -> str:
    """The labelling interface, as XML: the text, and the labels of each task to choose one of."""
    lines = ["<View>", f'  <Text name="{TEXT}" value="$text"/>']
    for task, labels in tasks.items():
        lines.append(f'  <Header value="{task}"/>')
        lines.append(f'  <Choices name="{task}" toName="{TEXT}" choice="single" showInline="true">')
        lines += [f"    <Choice value={quoteattr(label)}/>" for label in labels]
        lines.append("  </Choices>")
    return "\n".join([*lines, "</View>", ""])


def prediction(model: str, labels: Mapping[str, str | None]) -> dict[str, Any]:
    """What a model says of a row, as Label Studio shows it.

    Args:
        labels: by task; None: the row has none.
    """
    results = [
        {
            "id": task,
            "from_name": task,
            "to_name": TEXT,
            "type": "choices",
            "value": {"choices": [label]},
        }
        for task, label in labels.items()
        if label is not None
    ]
    return {"model_version": model, "result": results}


def read_export(
    path: Path, tasks: Collection[str]
) -> list[tuple[int, Mapping[str, object]]] | None:
    """The rows of an export, each with its number from 1 and, by task, the label chosen.

    What was skipped has no label. JSON-MIN, and any other array of flat objects, is read, too.

    Returns:
        None where the file is no JSON array of objects.
    Raises:
        InputError: a task is not as Label Studio writes it, two labels are chosen for one row, or
            nothing is named after a task.
    """
    exported = _load(path)
    if exported is None:
        return None
    rows: list[tuple[int, Mapping[str, object]]] = []
    others: set[str] = set()
    for number, entry in enumerate(exported, 1):
        values, names = entry, set(entry)
        if isinstance(entry.get("data"), dict):
            values, names = _values(f"{path}:{number}", entry, tasks)
        others |= names.difference(tasks)
        rows.append((number, values))
    if others and not any(task in values for _, values in rows for task in tasks):
        raise InputError(
            f"{path}: nothing is named after a task ({', '.join(tasks)}); there are: "
            f"{', '.join(sorted(others))}"
        )
    return rows


def _load(path: Path) -> list[dict[str, Any]] | None:
    if path.suffix.lower() != ".json":
        return None
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None  # the reader of tables says what is wrong with it
    if not isinstance(found, list) or not found or not all(isinstance(e, dict) for e in found):
        return None
    return found


def _values(
    where: str, entry: Mapping[str, Any], tasks: Collection[str]
) -> tuple[dict[str, Any], set[str]]:
    """A row as a table would have it, and the names of all choices made."""
    labels, names = dict[str, str](), set[str]()
    for name, label in _chosen(where, entry):
        names.add(name)
        if name in tasks and labels.setdefault(name, label) != label:
            raise InputError(
                f"{where}: row {entry['data'].get(ROW_ID)} is both '{labels[name]}' and "
                f"'{label}' in '{name}'; leave one of them in Label Studio and export again"
            )
    # What the data call by a task's name may be what a model said; nobody chose it.
    data = {name: value for name, value in entry["data"].items() if name not in tasks}
    return {**data, **labels}, names


def _chosen(where: str, entry: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Names of choices with what was chosen, by all who did not skip the row."""
    try:
        for annotation in entry.get("annotations", []):
            if annotation.get("was_cancelled"):
                continue
            for result in annotation["result"]:
                if result.get("type") == "choices":
                    for label in result["value"]["choices"]:
                        yield str(result["from_name"]), str(label)
    except (AttributeError, KeyError, TypeError) as error:
        raise InputError(
            f"{where}: its annotations are not as Label Studio exports them; export as JSON"
        ) from error
