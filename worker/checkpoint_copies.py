"""Checkpoints of a training run in an object store, so that any host can go on with it."""

import shutil
from pathlib import Path

from mtl_core.storage.place import Place

TAG = "step-*.json"
KEEP = 2


class CheckpointCopies:
    """Keeps copies of a local folder's newest checkpoints in an object store.

    The JSON beside a checkpoint is copied last, as it is written last on disk: a checkpoint without
    it does not count.
    """

    def __init__(self, folder: Path, place: Place) -> None:
        self.folder, self.place = folder, place
        self._newest = ""

    def fetch(self) -> None:
        """Copy the newest checkpoints to the local folder, except files that are there already."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for tag in self.place.matching(TAG)[-KEEP:]:
            for name in (_weights(tag), tag):
                if not (self.folder / name).exists():
                    with self.place.reading(name) as path:
                        shutil.copyfile(path, self.folder / name)

    def put_new(self) -> None:
        """Copy new checkpoints into the object store; only the newest :data:`KEEP` stay there."""
        here = sorted(path.name for path in self.folder.glob(TAG))[-KEEP:]
        if not here or here[-1] == self._newest:
            return
        there = self.place.matching(TAG)
        for tag in here:
            if tag not in there:
                for name in (_weights(tag), tag):
                    self.place.put(name, self.folder / name)
        old = [tag for tag in there if tag not in here]
        self.place.delete(*old, *map(_weights, old))
        self._newest = here[-1]

    def remove(self) -> None:
        """Remove all copies; for when the run has ended."""
        self.place.delete_folder("")


def _weights(tag: str) -> str:
    return tag.replace(".json", ".safetensors")
