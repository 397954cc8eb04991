"""Appending to an output: a label job of what is new, whose parts then join the output.

The job has an output of its own, the folder ``_append`` in the one it appends to. So it is planned,
labelled, cancelled, retried and finalised as any other, and no two can append at once: they meet at
that folder. :mod:`jobs.label.join` says how its parts get into the output.
"""

from dataclasses import dataclass, replace

from jobs.input.files import describe
from jobs.label.fitting import fitted, known_rows, require_same
from jobs.label.known import NewRows, Tally
from jobs.label.request import (
    LabelJob,
    LabelRequest,
    label_job,
    locate_inputs,
    model_of,
    prepare_label,
    target_of,
)
from jobs.ledger.lifecycle import JobState
from jobs.output.generations import generations_of
from jobs.output.layout import APPEND, MANIFEST, read_manifest, require_finished
from jobs.output.manifest import Manifest
from jobs.roots import place_inside
from jobs.settings import Settings
from jobs.specs import InputFile, job_id
from mtl_core.errors import InputError
from mtl_core.storage.address import place_of
from mtl_core.storage.place import Place


@dataclass(frozen=True)
class NothingNew:
    """What was to be appended is in the output already, all of it."""

    output: Place
    files: int
    """Files that are there as they are."""
    rows: int
    """Rows of other files."""


def prepare_append(request: LabelRequest, settings: Settings) -> LabelJob | NothingNew:
    """Check inputs and model against an output, and make the job that appends what is new.

    Where there is no output yet, it is the job that makes it.

    Raises:
        InputError: a file or column cannot be used, or the output is not whole or has not all that
            is needed to append to it.
        OutputError: the output was made by another model or with other options.
        ModelError, UnknownTaskError, SettingsError: as :func:`jobs.label.request.prepare_label`.
    """
    target = target_of(request.output, settings)
    out = place_inside(target, settings)
    if not out.has(MANIFEST):
        return prepare_label(request, settings)
    require_finished(out)
    manifest = read_manifest(out)
    _require_appendable(out, manifest, request.id_column)
    located = locate_inputs(request.inputs, settings)
    files, notes = describe(located.files, request.as_given())
    new = _new(files, manifest)
    if not new:
        return NothingNew(out, len(files), 0)
    entry = model_of(request.model, settings)
    made = label_job(request, new, (*located.notes, *notes), target, entry, settings)
    require_same(out, manifest, made.spec, request.model)
    return _appending(out, manifest, made, len(files) - len(new))


def _new(files: tuple[InputFile, ...], manifest: Manifest) -> tuple[InputFile, ...]:
    """The files that no generation has read."""
    there = {*manifest.labelled_files, *(file.sha256 for file in manifest.inputs)}
    return tuple(file for file in files if file.sha256 not in there)


def _require_appendable(out: Place, manifest: Manifest, id_column: str | None) -> None:
    if manifest.limit is not None:
        raise InputError(
            f"{out} holds the first {manifest.limit:,} rows of its input only (--limit), so that "
            "it cannot be known what is new; label it whole into a new folder"
        )
    if manifest.relabels and not manifest.labelled_files:
        raise InputError(
            f"{out} was labelled anew from {manifest.relabels} and does not say of which files it "
            "is; label that one anew again, or append there"
        )
    if not manifest.rows.labelled:
        raise InputError(f"{out} holds no labelled row; label its input again into a new folder")
    if manifest.id_column and id_column != manifest.id_column:
        raise InputError(
            f"{out} was made with --id-column {manifest.id_column}; append with the same"
        )


def _appending(
    out: Place, manifest: Manifest, made: LabelJob, skipped_files: int
) -> LabelJob | NothingNew:
    """The job made of all rows of new files, as one that appends those that are new."""
    source, generation = fitted(made.source, out, manifest), manifest.last_generation + 1
    first, column = manifest.rows.total, made.spec.id_column
    known = known_rows(source, out, manifest, column, generation) if column else None
    tally = Tally()
    if known is not None:
        for _ in NewRows(source, first, known, tally):
            pass
        if not (tally.new or tally.changed or tally.bad):
            return NothingNew(out, skipped_files, tally.skipped)
    changes = {
        "output": str(place_of(made.spec.output).below(APPEND)),
        "appends": made.spec.output,
        "generation": generation,
        "first_row_id": first,
        "skipped_files": skipped_files,
        "skipped_rows": tally.skipped,
    }
    spec = made.spec.model_copy(update=changes)
    notes = (*made.notes, *source.notes[len(made.source.notes) :], *_notes(out, manifest, tally))
    return replace(made, id=job_id(spec), spec=spec, source=source, notes=notes, known=known)


def _notes(out: Place, manifest: Manifest, tally: Tally) -> list[str]:
    notes, last = list[str](), generations_of(manifest)[-1]
    if tally.changed:
        notes.append(
            f"rows whose id is in {out} already, with another text: {tally.changed:,}; they go to "
            "errors"
        )
    if last.state == JobState.PARTIAL:
        notes.append(
            f"{last.job} ended partial: from now on `mtl retry {last.job}` cannot try its rows "
            "that failed"
        )
    return notes
