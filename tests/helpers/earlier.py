"""What the last version before the rooms left: an output, and a planned job with its ledger."""

import json
import shutil
from pathlib import Path

from support import REPOSITORY

from jobs.specs import LabelSpec
from mtl_core.model.registry import SHIPPED_MODELS

JOB = "label-0498cde4631d"


def earlier_files(folder: Path) -> Path:
    """A copy of it, its absolute paths made those of this machine."""
    copy = folder / "old"
    shutil.copytree(REPOSITORY / "tests" / "whole" / "before_the_rooms", copy)
    for file in copy.rglob("*.json"):
        text = file.read_text().replace("/models/default", str(SHIPPED_MODELS / "default"))
        file.write_text(text.replace("/old/", f"{copy}/"))
    return copy


def earlier_spec(folder: Path) -> LabelSpec:
    """The spec of its planned job."""
    keys = json.loads((earlier_files(folder) / "ledger.json").read_text())
    return LabelSpec.model_validate_json(keys[f"mtl:{{{JOB}}}:job"][1]["spec"])
