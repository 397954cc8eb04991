"""What the last version before the rooms left: an output, and a planned job with its ledger."""

import json
import shutil
from pathlib import Path

from support import REPOSITORY

from jobs.specs import LabelSpec
from mtl_core.files import file_sha256
from mtl_core.model.config import WEIGHTS
from mtl_core.model.registry import SHIPPED_MODELS

JOB = "label-0498cde4631d"
MODEL = "11480c172df73fe940c59a110821500d9ce073850f2cb2463d2655d9ed78ee90"
"""SHA-256 of the model that was shipped then; a job goes on with the model that it began with."""


def earlier_files(folder: Path) -> Path:
    """A copy of it, its paths and its model made those of this machine."""
    copy = folder / "old"
    shutil.copytree(REPOSITORY / "tests" / "whole" / "before_the_rooms", copy)
    for file in copy.rglob("*.json"):
        text = file.read_text().replace("/models/default", str(SHIPPED_MODELS / "default"))
        text = text.replace(MODEL, file_sha256(SHIPPED_MODELS / "default" / WEIGHTS))
        file.write_text(text.replace("/old/", f"{copy}/"))
    return copy


def earlier_spec(folder: Path) -> LabelSpec:
    """The spec of its planned job."""
    keys = json.loads((earlier_files(folder) / "ledger.json").read_text())
    return LabelSpec.model_validate_json(keys[f"mtl:{{{JOB}}}:job"][1]["spec"])
