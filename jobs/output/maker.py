"""The model that made an output, looked for among those of this machine."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from jobs.output.manifest import Manifest
from jobs.roots import model_folder, place_inside
from jobs.settings import Settings
from mtl_core.errors import ModelError, SettingsError, StoreError
from mtl_core.model.registry import ModelEntry, find_model, list_models
from mtl_core.storage.folder import Folder


def made_by(
    manifest: Manifest, settings: Settings, likely: Sequence[ModelEntry] = ()
) -> Path | None:
    """The folder of the model that made an output, by its weights; None: it is not to be found.

    The model of the name in the manifest is looked at first, then the likely ones, then all others
    on this machine: a name may stand for another model by now.
    """
    sha256 = manifest.model.sha256

    def candidates() -> Iterator[ModelEntry]:
        with suppress(ModelError, StoreError):
            yield find_model(manifest.model.name, settings.models, settings.model_copies)
        yield from likely
        for each in list_models(settings.models, settings.model_copies):
            if isinstance(each.home, Folder):  # of a store, each would have to be copied first
                yield each

    for each in candidates():
        # one that is damaged, out of reach, or that jobs may not read is as one that is not there
        with suppress(ModelError, StoreError, SettingsError):
            place_inside(str(each.home), settings)
            if each.sha256() == sha256:
                return model_folder(str(each.home), sha256, settings)
    return None
