"""The manifest: the same keys in the same order as ever; older and newer ones open; one clear line
for a damaged one."""

import json
from pathlib import Path
from typing import Any

import pytest
from specs import manifest_for

from jobs.output.layout import MANIFEST, read_manifest
from jobs.output.manifest import Manifest
from mtl_core.errors import InputError
from mtl_core.files import as_json
from mtl_core.storage.folder import Folder

WRITTEN = Path(__file__).parents[2] / "whole/before_the_rooms/done/_manifest.json"
LATER = {"text_columns", "limit", "thresholds", "duplicates", "cached", "finished_s", "bytes"}
"""Fields that the first version did not write, and one that nobody reads."""


def without(value: Any, names: set[str]) -> Any:
    """JSON without these keys, at every depth; the inputs as they are."""
    if isinstance(value, dict):
        kept = {k: v for k, v in value.items() if k not in names}
        return {k: v if k == "inputs" else without(v, names) for k, v in kept.items()}
    return [without(v, names) for v in value] if isinstance(value, list) else value


def put(folder: Path, value: Any) -> Folder:
    (folder / MANIFEST).write_text(value if isinstance(value, str) else json.dumps(value))
    return Folder(folder)


def test_what_is_read_is_written_again_byte_for_byte() -> None:
    text = WRITTEN.read_text()
    assert as_json(Manifest.model_validate_json(text).as_json()) == text


def test_a_manifest_of_the_first_version_opens(tmp_path: Path) -> None:
    manifest = read_manifest(put(tmp_path, without(json.loads(WRITTEN.read_text()), LATER)))
    assert (manifest.text_columns, manifest.rows.cached, manifest.limit) == ((), 0, None)
    assert manifest.parts[0].finished_s is None


def test_what_a_later_version_added_is_no_obstacle(tmp_path: Path) -> None:
    written = json.loads(WRITTEN.read_text())
    written["inputs"][0]["colour"] = written["parts"][0]["colour"] = written["colour"] = "red"
    assert read_manifest(put(tmp_path, written)).rows.total == 7


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "cannot be read: Expecting property name"),
        ("[]", "cannot be read: all of it: Input should be"),
        ({"job": "label-x"}, "cannot be read: state: Field required"),
        (manifest_for([{"part": 1}], {}), "cannot be read: parts.0.part: Input should be"),
    ],
)
def test_a_damaged_manifest_is_one_line(content: Any, said: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        read_manifest(put(tmp_path, content))
    assert f"{MANIFEST} {said}" in str(caught.value)
    assert "\n" not in str(caught.value)
