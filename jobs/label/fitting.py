"""Rows to append in the columns of the output: whether they fit, and how."""

import io
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq

from jobs.input.columns import one_type
from jobs.input.source import Source
from jobs.label.known import KnownRows, read_known
from jobs.output.generations import before
from jobs.output.manifest import Manifest
from jobs.output.rows import opened
from jobs.specs import LabelSpec
from mtl_core.errors import InputError, OutputError
from mtl_core.storage.parquet import label_fields
from mtl_core.storage.place import Place
from mtl_core.tasks import Task


def fitted(source: Source, out: Place, manifest: Manifest) -> Source:
    """The source with the columns of an output: their order and types, and null where it has none.

    A type is taken if the output's holds its values too, as between the files of one job.

    Raises:
        InputError: the text is another column, there is a column that the output lacks, or one
            whose values the output's type does not hold.
    """
    if source.text_column != manifest.text_column:
        raise InputError(
            f"{source.files[0].name}: the text is column '{source.text_column}', that of {out} "
            f"'{manifest.text_column}'; name the column by --text-column"
        )
    with opened(out, manifest.parts[0].part) as file:
        schema = file.schema_arrow
    own = {name: schema.field(name).remove_metadata() for name in manifest.own_columns}
    given = {field.name: field for field in source.fields}
    where = source.files[0].name if len(source.files) == 1 else f"{source.files[0].name}, …"
    if unknown := [name for name in given if name not in own]:
        raise InputError(
            f"{where}: {out} has no column '{unknown[0]}'; leave it out of the input, or label all "
            "files again into a new folder"
        )
    for name, field in given.items():
        if one_type(own[name].type, field.type) != own[name].type:
            raise InputError(
                f"{where}: column '{name}' is {field.type}, in {out} it is {own[name].type}; write "
                "it as that, or label all files again into a new folder"
            )
    missing = [name for name in own if name not in given]
    named = ", ".join(f"'{name}'" for name in missing)
    notes = (f"columns that {out} has and the input has not stay empty: {named}",)
    return replace(
        source, fields=tuple(own.values()), notes=(*source.notes, *(notes if missing else ()))
    )


def known_rows(
    source: Source, out: Place, manifest: Manifest, column: str, generation: int
) -> KnownRows:
    """The rows of the generations before one.

    Args:
        column: the id column, as the input names it.
    Raises:
        InputError: as :func:`jobs.label.known.read_known`.
    """
    return read_known(out, before(manifest, generation), source.names[column])


def require_same(out: Place, manifest: Manifest, spec: LabelSpec, model: str) -> None:
    """Refuse to append what would be labelled in another way than an output's rows were.

    Args:
        model: as the user named it.
    Raises:
        OutputError: by another model, or with other options.
    """
    old = manifest.model
    asked = (spec.model_sha256, spec.backbone_sha256, spec.typicality_sha256)
    if asked != (old.sha256, old.backbone_sha256, old.typicality_sha256):
        other = (
            f"model '{old.name}', not by '{spec.model}'"
            if spec.model != old.name
            else f"another model that was named '{spec.model}' then"
        )
        raise OutputError(f"{out} was labelled by {other}; {_first(out, model)}")
    if options := _other_options(out, manifest, spec):
        kept = {"--embedding", "--precision"}.intersection(options)  # by relabelling, too
        way = "label all files again into a new folder" if kept else _first(out, model)
        raise OutputError(
            f"{out} was made with another {' and '.join(options)}; give the options it was made "
            f"with, or {way}"
        )


def _first(out: Place, model: str) -> str:
    return f"relabel first: `mtl relabel {out} --model {model} -o NEW`, then append to NEW"


def _other_options(out: Place, manifest: Manifest, spec: LabelSpec) -> list[str]:
    """The options by which a spec would write something else than an output's job did."""
    found = {
        "--only": tuple(manifest.model.tasks) != tuple(name for name, _ in spec.tasks),
        "--embedding": manifest.embedding != spec.embedding,
        "--top": _other_top(out, manifest, spec),
        "--abstain-below": manifest.thresholds != dict(spec.thresholds),
        "--min-typicality": manifest.min_typicality != spec.min_typicality,
        "--precision": _other_precision(manifest, spec),
    }
    names = [name for name, other in found.items() if other]
    return names or (["set of label columns"] if _other_columns(manifest, spec) else [])


def _other_top(out: Place, manifest: Manifest, spec: LabelSpec) -> bool:
    """Whether rows list another number of their most probable labels; their first row tells it."""
    there = {column.name for column in manifest.columns}
    lists = {f"{name}_top": min(spec.top, len(labels)) for name, labels in spec.tasks}
    if not spec.top or not there.issuperset(lists):
        return bool(spec.top) or bool(there.intersection(lists))
    some = next(part for part in manifest.parts if part.rows)
    with opened(out, some.part) as file:
        row = next(file.iter_batches(1, columns=list(lists))).to_pylist()[0]
    return any(len(row[name]) != length for name, length in lists.items())


def _other_precision(manifest: Manifest, spec: LabelSpec) -> bool:
    """Whether parts were computed in a precision that is not asked for.

    By ``auto`` a worker may choose any but int8. Of stored embeddings it is not known.
    """
    computed = {e.precision for e in manifest.engines if e.engine != "stored embeddings"}
    if spec.precision == "auto":
        return "int8" in computed
    return not computed <= {str(spec.precision)}


def _other_columns(manifest: Manifest, spec: LabelSpec) -> bool:
    """Whether the columns behind the user's own differ, by name or type."""
    fields = label_fields(
        [Task(name, labels) for name, labels in spec.tasks],
        spec.embedding_size,
        spec.embedding,
        abstains=spec.abstains,
        top=spec.top,
        typicality=bool(spec.typicality_sha256),
    )
    stream = io.BytesIO()  # some types are other ones when they are read again
    pq.write_table(pa.schema(fields).empty_table(), stream)
    planned = [(field.name, str(field.type)) for field in pq.read_schema(stream)]
    behind = manifest.columns[1 + len(manifest.own_columns) :]
    return planned != [(column.name, column.type) for column in behind]
