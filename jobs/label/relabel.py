"""Labelling an output anew: a label job whose input is the parts of an output.

Where the new model has the encoder that made the output's embeddings, they are read from it, and no
text is encoded. All else is as in any label job.
"""

from dataclasses import replace
from pathlib import Path
from typing import cast

from jobs.input.locate import locate
from jobs.label.request import LabelJob, LabelRequest, label_job, model_of, target_of
from jobs.output.layout import read_manifest, require_finished
from jobs.output.maker import made_by
from jobs.output.manifest import Manifest
from jobs.roots import place_inside
from jobs.settings import Settings
from jobs.specs import InputFile
from mtl_core.config import Embedding
from mtl_core.errors import InputError, OutputError
from mtl_core.files import file_sha256
from mtl_core.model.registry import ModelEntry
from mtl_core.storage.folder import Folder
from mtl_core.storage.parquet import OF_ENCODER
from mtl_core.storage.place import Place

NO_LIMIT = 2**40
"""Tokens of a shard where none are encoded."""
WITHOUT = {
    "none": "it holds no embeddings",
    "binary": "it holds the signs of the embeddings only",
}


def prepare_relabel(out: Place, request: LabelRequest, settings: Settings) -> LabelJob:
    """Check an output and a model, and make the job that labels the output's rows anew.

    Args:
        out: the output.
        request: what is asked; its inputs, columns and form of the embedding are settled here.
    Returns:
        the job; its notes say whether texts are encoded again, and why.
    Raises:
        InputError: the output is not whole, has changed, or holds no rows or no text.
        OutputError: the new output would be the same.
        ModelError, UnknownTaskError: as :func:`jobs.label.request.prepare_label`.
        SettingsError: the output, the model or the new output lies below none of the roots.
    """
    require_finished(out)
    manifest = read_manifest(out)
    target = target_of(request.output, settings)
    source = target_of(str(out), settings)
    if place_inside(target, settings) == place_inside(source, settings):
        raise OutputError(f"{out} cannot be labelled into itself; give another folder by -o")
    entry = model_of(request.model, settings)
    reason = why_encode(manifest, entry, settings)
    files = _files(out, manifest, settings, stored=not reason)
    asked = replace(
        request,
        text_columns=(manifest.text_column,),
        embedding=cast(Embedding, manifest.embedding),
        shard_tokens=request.shard_tokens if reason else NO_LIMIT,
    )
    notes = _notes(out, manifest, reason)
    return label_job(asked, files, notes, target, entry, settings, source)


def _notes(out: Place, manifest: Manifest, reason: str) -> list[str]:
    how = f"the {manifest.embedding} embeddings of {out} are used; no text is encoded"
    notes = [f"encoding the texts of {out} again: {reason}" if reason else how]
    if not reason and any(engine.precision == "int8" for engine in manifest.engines):
        notes.append("they were computed in int8; some labels may differ from encoding in float32")
    if manifest.rows.errors:
        notes.append(f"{manifest.rows.errors:,} rows of {out}/errors stay errors")
    return notes


def why_encode(manifest: Manifest, entry: ModelEntry, settings: Settings) -> str:
    """Why an output's embeddings are of no use to a model; empty if they are."""
    from mtl_core.model.identity import encoder_sha256  # loads numpy

    if manifest.embedding in WITHOUT:
        return WITHOUT[manifest.embedding]
    old = manifest.model
    maker = made_by(manifest, settings, (entry,))
    if maker is None:
        return f"model '{old.name}' ({old.sha256[:12]}…), which made it, is not here any more"
    if encoder_sha256(maker) != encoder_sha256(entry.folder):
        return f"model '{entry.name}' has another encoder than '{old.name}', which made it"
    return ""


def _files(
    out: Place, manifest: Manifest, settings: Settings, *, stored: bool
) -> tuple[InputFile, ...]:
    """An output's parts as input files, each checked to be what its job wrote.

    Args:
        stored: read the embeddings, too.
    """
    kept = _kept(out, manifest, stored=stored)
    files = []
    for part, path in zip(manifest.parts, _paths(out, manifest, settings), strict=True):
        if file_sha256(path) != part.sha256:
            raise InputError(
                f"{out.at(part.part)} has changed since its job wrote it (checksum differs)"
            )
        files.append(
            InputFile(
                path=str(path),
                origin="" if isinstance(out, Folder) else out.at(part.part),
                format="parquet",
                compression="none",
                bytes=path.stat().st_size,
                sha256=part.sha256,
                kept=kept,
            )
        )
    return tuple(files)


def _paths(out: Place, manifest: Manifest, settings: Settings) -> list[Path]:
    """Where an output's parts lie on this machine; those of a store are copied, as any input."""
    names = [part.part for part in manifest.parts]
    if not isinstance(out, Folder):
        return [file.path for file in locate(map(out.at, names), settings.spool).files]
    missing = [name for name in names if not out.has(name)]
    if missing:
        raise InputError(f"{out.at(missing[0])} is missing; label again into a new folder")
    return [out.path.absolute() / name for name in names]


def _kept(out: Place, manifest: Manifest, *, stored: bool) -> tuple[str, ...]:
    """Columns read of an output: the user's own, which stand before its labels, and the encoder's.

    Raises:
        InputError: it holds no rows, or no text.
    """
    own, names = manifest.own_columns, [column.name for column in manifest.columns]
    if not manifest.parts:
        raise InputError(f"{out} holds no labelled row")
    if manifest.text_column not in own:
        raise InputError(f"{out} holds no column of texts; label its input again")
    return (*own, *(name for name in names if stored and name in OF_ENCODER))
