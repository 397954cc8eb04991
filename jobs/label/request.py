"""From what a user asks of a label job to its spec, every value checked; nothing is queued yet."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from jobs.input.files import AsGiven, describe
from jobs.input.folders import Listing
from jobs.input.ids import check_ids
from jobs.input.locate import locate
from jobs.input.source import NumberedChunk, Source, open_source
from jobs.label.known import KnownRows, rows_of
from jobs.output.layout import OWNER, finished, generations_in
from jobs.roots import check_address, check_backbone_inside, check_inside, place_inside
from jobs.settings import Settings
from jobs.specs import Format, InputFile, LabelSpec, job_id
from mtl_core.config import Embedding, LabelPrecision
from mtl_core.errors import ModelError, UnknownTaskError
from mtl_core.model.registry import ModelEntry, find_model
from mtl_core.storage.address import is_address, local_path, place_of
from mtl_core.storage.folder import Folder
from mtl_core.storage.parquet import output_columns
from mtl_core.storage.place import Place
from mtl_core.suggest import did_you_mean
from mtl_core.tasks import Task

SHARD_ROWS, SHARD_TOKENS = 8192, 131_072
"""Most rows and estimated tokens of a shard, if nothing else is asked for."""


@dataclass(frozen=True)
class LabelRequest:
    """What a user asks of a label job."""

    inputs: tuple[str, ...]
    """Files, folders, patterns, addresses, or ``-`` for stdin."""
    output: str
    """A folder or an ``s3://`` address."""
    model: str
    text_columns: tuple[str, ...] = ()
    """Columns that hold the text; empty: the column is to be found."""
    input_format: Format | None = None
    """The format of files whose name does not tell it."""
    encoding: str | None = None
    """The encoding of text files; None: it is to be found."""
    header: bool | None = None
    """Whether csv and tsv files have a header line; None: that is to be found."""
    id_column: str | None = None
    """A column to check: it must hold another value in every row."""
    limit: int | None = None
    """Label this many of the first rows only."""
    only: tuple[str, ...] = ()
    """Tasks to write; empty: all."""
    top: int = 0
    """Write so many of each task's most probable labels, with their scores; 0: none."""
    embedding: Embedding = "float32"
    precision: LabelPrecision = "auto"
    """What to compute in; ``auto`` leaves it to each worker."""
    abstain_below: float | None = None
    """A precision: a row gets no label unless labels as sure as its own were right this often, on
    held-out rows. None: no label is too unsure."""
    min_typicality: float = 0.0
    """A row of lower typicality for a task gets no label of it."""
    shard_rows: int | None = None
    """Rows of a shard, at most. None: :data:`SHARD_ROWS`, or more where workers are fast."""
    shard_tokens: int | None = None
    """Estimated tokens of a shard, at most. None: :data:`SHARD_TOKENS`, or more likewise."""
    cache: bool = False
    """Let workers look up and keep answers in their machine's cache."""

    def as_given(self) -> AsGiven:
        """What the request says of how to read the files."""
        return AsGiven(self.input_format, self.encoding, self.header, self.text_columns)


@dataclass(frozen=True)
class LabelJob:
    """A checked label job, not yet queued."""

    id: str
    spec: LabelSpec
    source: Source
    notes: tuple[str, ...] = ()
    """What the user should know of how the input was found and read."""
    known: KnownRows | None = None
    """Rows that the output holds already, which an append with an id column leaves out."""

    @property
    def output(self) -> Place:
        """Where its parts are made; of an append, a folder in the output that it appends to."""
        return place_of(self.spec.output)

    @property
    def target(self) -> Place:
        """Its output as a user knows it."""
        return place_of(self.spec.target)

    @property
    def finished(self) -> bool:
        """Whether its whole output is there already."""
        if not self.spec.appends:
            return finished(self.output, self.id)
        joined = any(each.job == self.id for each in generations_in(self.target))
        return joined and not self.output.has(OWNER)  # which a partial job keeps, to be retried

    def rows(self) -> Iterator[NumberedChunk]:
        """The rows that it labels, as a stream.

        Raises:
            InputError: a file is damaged.
        """
        return rows_of(self.source, self.spec, self.known)


def prepare_label(request: LabelRequest, settings: Settings) -> LabelJob:
    """Check inputs, columns and model, and make the job's spec and id.

    Raises:
        InputError: a file or column cannot be used.
        ModelError, UnknownTaskError: the model, a threshold or a task that is asked for is missing.
        SettingsError: a file, the model or the output lies below none of the configured roots.
    """
    located = locate_inputs(request.inputs, settings)
    target = target_of(request.output, settings)
    files, notes = describe(located.files, request.as_given())
    entry = model_of(request.model, settings)
    return label_job(request, files, (*located.notes, *notes), target, entry, settings)


def label_job(
    request: LabelRequest,
    files: tuple[InputFile, ...],
    notes: Sequence[str],
    target: str,
    entry: ModelEntry,
    settings: Settings,
    relabels: str = "",
) -> LabelJob:
    """Make a job's spec and id, where its files are found.

    Args:
        files: take the place of the request's inputs.
        notes: what the user should know of them.
        target: as :func:`target_of` gives it.
        entry: the model.
        relabels: the output whose parts the files are; empty: they are no such parts.
    Raises:
        InputError, ModelError, UnknownTaskError, SettingsError: as :func:`prepare_label`.
    """
    config = entry.config()
    check_backbone_inside(config["backbone"], settings)
    tasks = _chosen_tasks(config, request.only)
    sha256 = entry.sha256()
    typicality = _typicality(entry, sha256, request.min_typicality)
    taken = columns_written(tasks, typicality)
    source = open_source(files, request.text_columns, taken, request.limit)
    if request.id_column is not None:
        check_ids(source, request.id_column)
    spec = LabelSpec(
        inputs=files,
        text_columns=source.text_columns,
        text_column=source.text_column,
        output=target,
        model=entry.name,
        model_dir=str(entry.home),
        model_sha256=sha256,
        backbone_sha256=config["backbone_sha256"],
        typicality_sha256=typicality,
        tasks=tasks,
        embedding_size=config["embedding_size"],
        thresholds=thresholds_for(request.abstain_below, config, [name for name, _ in tasks]),
        min_typicality=request.min_typicality,
        id_column=request.id_column,
        limit=request.limit,
        embedding=request.embedding,
        precision=request.precision,
        top=request.top,
        shard_rows=request.shard_rows or SHARD_ROWS,
        shard_tokens=request.shard_tokens or SHARD_TOKENS,
        grow=request.shard_rows is None and request.shard_tokens is None,
        cache=request.cache,
        relabels=relabels,
    )
    return LabelJob(job_id(spec), spec, source, (*notes, *source.notes))


def target_of(output: str, settings: Settings) -> str:
    """The output as the spec holds it: an absolute path or an address.

    Raises:
        SettingsError: jobs may not write there.
    """
    target = str(place_of(output)) if is_address(output) else str(local_path(output).absolute())
    place_inside(target, settings)
    return target


def locate_inputs(inputs: Sequence[str], settings: Settings) -> Listing:
    """Find the files of the inputs, and check that jobs may read each of them."""
    for address in filter(is_address, inputs):
        check_address(address, settings)
    located = locate(inputs, settings.spool)
    for file in located.files:
        check_inside(file.path, settings)
    return located


def model_of(name: str, settings: Settings) -> ModelEntry:
    """Find a model by its name, and check that jobs may read it."""
    entry = find_model(name, settings.models, settings.model_copies)
    if not isinstance(entry.home, Folder):
        place_inside(str(entry.home), settings)
    return entry


def _typicality(entry: ModelEntry, model_sha256: str, least: float) -> str:
    """SHA-256 of a model's statistics of typicality; empty if it has none.

    Raises:
        ModelError: it has none, and a least typicality is asked for.
    """
    sha256 = entry.typicality_sha256(model_sha256)
    if least and not sha256:
        raise ModelError(
            f"model '{entry.name}' has no statistics of typicality, which --min-typicality needs; "
            "train it again"
        )
    return sha256


def columns_written(
    tasks: tuple[tuple[str, tuple[str, ...]], ...], typicality_sha256: str
) -> set[str]:
    """Names of columns that labelling writes; a user's column of such a name gets another."""
    return output_columns(
        [Task(name, labels) for name, labels in tasks], typicality=bool(typicality_sha256)
    )


def _chosen_tasks(
    config: dict[str, Any], only: Sequence[str]
) -> tuple[tuple[str, tuple[str, ...]], ...]:
    tasks = {task["name"]: tuple(task["labels"]) for task in config["tasks"]}
    for name in only:
        if name not in tasks:
            hint = did_you_mean(name, tasks, behind=" ")
            raise UnknownTaskError(
                f"the model has no task '{name}'; {hint}it has: {', '.join(tasks)}"
            )
    return tuple((name, labels) for name, labels in tasks.items() if not only or name in only)


def thresholds_for(
    wanted: float | None, config: dict[str, Any], tasks: Sequence[str]
) -> tuple[tuple[str, float], ...]:
    """For each task, the score from which on its labels have the precision wanted.

    Empty where no precision is wanted.

    Raises:
        ModelError: on held-out rows, the model's labels of some task never had that precision.
    """
    if wanted is None:
        return ()
    found = []
    for task in tasks:
        known = config.get("calibration", {}).get(task, {}).get("thresholds", {})
        if f"{wanted:.2f}" not in known:
            best = f"the best is {max(known)}" if known else "it was never calibrated"
            raise ModelError(f"the model has no threshold for {task} at precision {wanted}; {best}")
        found.append((task, known[f"{wanted:.2f}"]))
    return tuple(found)
