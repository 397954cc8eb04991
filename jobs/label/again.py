"""A label job made of its spec again, so that it can go on (``mtl retry``)."""

from pathlib import Path

from jobs.input.source import open_source
from jobs.label.fitting import fitted, known_rows
from jobs.label.request import LabelJob, columns_written
from jobs.output.layout import read_manifest
from jobs.specs import LabelSpec
from mtl_core.errors import InputError
from mtl_core.files import file_sha256
from mtl_core.storage.address import place_of


def label_job_of(job: str, spec: LabelSpec) -> LabelJob:
    """Make a label job of its spec in the ledger again, so that it can go on.

    Raises:
        InputError: an input is missing, or not what it was when the job was submitted; or the
            output that it appends to is not what it was.
    """
    for file in spec.inputs:
        path = Path(file.path)
        if not path.is_file():
            raise InputError(f"{file.name}: the job's input has gone")
        if path.stat().st_size != file.bytes or file_sha256(path) != file.sha256:
            raise InputError(
                f"{file.name} has changed since {job} was submitted; "
                "submit it anew into another folder"
            )
    taken = columns_written(spec.tasks, spec.typicality_sha256)
    source = open_source(spec.inputs, spec.text_columns, taken, spec.limit)
    if not spec.appends:
        return LabelJob(job, spec, source)
    out = place_of(spec.appends)
    manifest, column = read_manifest(out), spec.id_column
    source = fitted(source, out, manifest)
    known = known_rows(source, out, manifest, column, spec.generation) if column else None
    return LabelJob(job, spec, source, known=known)
