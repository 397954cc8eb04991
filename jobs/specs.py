"""What a job was asked to do: strict, versioned JSON; checked by submitter and worker alike."""

import hashlib
import json
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mtl_core.config import Embedding, LabelPrecision
from mtl_core.errors import JobError


class Spec(BaseModel):
    """Base of all specs: immutable, and unknown fields are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    version: Literal[1] = 1

    added: ClassVar[frozenset[str]] = frozenset()
    """Fields that came after the first release. A job's id leaves them out where they have their
    default, so that a new field changes no job's id but those that use it."""


Format = Literal["txt", "csv", "tsv", "jsonl", "json", "parquet", "arrow"]
Compression = Literal["none", "gzip", "bz2", "xz", "zstd"]
Quotes = Literal["double", "backslash", "none"]
"""How a quote within quotes is written; ``none``: quotes are text like any other character."""


class InputFile(Spec):
    """One input file, how to read it, and its fingerprint."""

    added: ClassVar[frozenset[str]] = frozenset(
        {"quotes", "header", "skip", "line_end", "partition", "kept"}
    )

    path: str
    origin: str = ""
    """What the user gave, where that was no file of this machine (stdin, a URL)."""
    format: Format
    compression: Compression
    encoding: str = "utf-8"
    """The encoding of a text format, as Python names it."""
    delimiter: str = ","
    """What separates the fields of csv and tsv."""
    quotes: Quotes = "double"
    """How quotes are used in csv and tsv."""
    header: bool = True
    """Whether a line of csv and tsv names the columns; else they are column_1, column_2, …"""
    doubt: str = Field("", exclude=True)
    """Why the first line may be no header after all. The user is told; the spec leaves it out."""
    skip: int = 0
    """How many lines of csv and tsv stand above the header and are no rows."""
    line_end: Literal["\n", "\r"] = "\n"
    """What ends a line of a text format; \\r\\n is taken as \\n."""
    partition: tuple[tuple[str, str | None], ...] = ()
    """Columns that the names of its folders give (``lang=en``), with their value."""
    kept: tuple[str, ...] = ()
    """Of a part of an output that is labelled anew: the columns read. Its rows keep their
    ``row_id``. Empty: all columns are read, and rows are counted."""
    bytes: int
    sha256: str

    @property
    def name(self) -> str:
        """The file's name in messages."""
        return self.origin or self.path


class LabelSpec(Spec):
    """A label job: files in, one Parquet dataset out."""

    added: ClassVar[frozenset[str]] = frozenset(
        {"typicality_sha256", "min_typicality", "relabels", "appends", "generation", "first_row_id"}
    )

    kind: Literal["label"] = "label"
    inputs: tuple[InputFile, ...] = Field(min_length=1)
    text_columns: tuple[str, ...] = Field(min_length=1)
    """The input's column to label, or those whose texts are joined; ``a.b`` is field b of a."""
    text_column: str
    """The output's column that holds the text."""
    id_column: str | None = None
    """A column checked to hold another value in every row."""
    limit: int | None = Field(None, gt=0)
    """Label this many of the first rows only."""
    output: str
    """Absolute path of the output folder."""
    model: str
    model_dir: str
    model_sha256: str
    backbone_sha256: str
    typicality_sha256: str = ""
    """SHA-256 of the model's statistics of typicality; empty: it has none, and no such column is
    written."""
    tasks: tuple[tuple[str, tuple[str, ...]], ...]
    """Task names with their labels, in column order; the model may have more."""
    top: int = Field(0, ge=0)
    """So many labels of each task are listed with their scores; 0: none."""
    embedding_size: int = Field(gt=0)
    embedding: Embedding = "float32"
    precision: LabelPrecision = "auto"
    """``auto`` leaves the choice to each worker."""
    thresholds: tuple[tuple[str, float], ...] = ()
    """By task, the score below which a row gets no label; empty: no score is too low."""
    min_typicality: float = Field(0.0, ge=0, le=1)
    """The typicality below which a row gets no label of the task."""
    shard_rows: int = Field(gt=0)
    shard_tokens: int = Field(gt=0)
    """A shard is cut at this many tokens, estimated from its characters."""
    grow: bool = False
    """Whether shards may be larger than that where workers are fast."""
    cache: bool = False
    """Whether workers look up and keep answers in their machine's cache."""
    relabels: str = ""
    """Path or address of the output that is labelled anew, whose parts are the inputs."""
    appends: str = ""
    """Path or address of the output that the rows are appended to; ``output`` is a folder in it."""
    generation: int = Field(1, gt=0)
    """The number of the generation that the job makes."""
    first_row_id: int = Field(0, ge=0)
    skipped_files: int = 0
    """Files given that are in that output already; they are not among the inputs."""
    skipped_rows: int = 0
    """Rows of the inputs that are in that output already."""

    @property
    def target(self) -> str:
        """Path or address of the output as a user knows it."""
        return self.appends or self.output

    @property
    def stored(self) -> bool:
        """Whether the embeddings are read from the inputs, and no text is encoded."""
        return bool(self.relabels) and "embedding" in self.inputs[0].kept

    @property
    def abstains(self) -> bool:
        """Whether a row may get no label."""
        return bool(self.thresholds) or self.min_typicality > 0


class TeacherModel(Spec):
    """A trained model whose answers a run learns."""

    name: str
    home: str
    """Path or address of its model directory."""
    sha256: str


class UnlabelledFile(Spec):
    """A file of texts without labels."""

    path: str
    """As in ``TrainSpec.data``."""
    task: str = ""
    """The task it is for; empty: every task."""


class TrainSpec(Spec):
    """A train job: a scenario and its settings in, a model directory out."""

    added: ClassVar[frozenset[str]] = frozenset(
        {"backbone_sha256", "data", "add", "teachers", "unlabelled", "start", "checked"}
        | {"only_tasks"}
    )

    kind: Literal["train"] = "train"
    name: str
    output: str
    """Absolute path of the model directory."""
    data_dir: str | None
    preset: str
    scenario: str
    settings: dict[str, int | float | str | bool | None]
    """Fields of ``TrainConfig`` that differ from the preset."""
    backbone: str
    backbone_sha256: str = ""
    """SHA-256 of the backbone's weights if it is a local folder. Empty if it is a name: the name
    says which weights they are."""
    tasks: tuple[dict[str, Any], ...]
    """What :func:`mtl_core.tasks.task_as_json` gives for each task."""
    data: tuple[InputFile, ...] = ()
    """All local files that the run reads; empty where it reads the hub alone."""
    add: tuple[str, ...] = ()
    """Paths of those among them that hold further rows to train on, in the order given."""
    teachers: tuple[TeacherModel, ...] = ()
    unlabelled: tuple[UnlabelledFile, ...] = ()
    start: TeacherModel | None = None
    """The model whose heads are trained, in the scenario ``heads``."""
    checked: str = ""
    """Path or address of the output whose rows were checked, in the same scenario."""
    only_tasks: tuple[str, ...] = ()
    """Names of the tasks whose heads are trained there; empty: of all that were checked."""
    command: str


AnySpec = LabelSpec | TrainSpec


def job_id(spec: AnySpec) -> str:
    """The job's id: made from what decides its output, so the same submit finds the same job."""
    deciding = _deciding(spec)
    canonical = json.dumps(deciding, sort_keys=True, ensure_ascii=False)
    return f"{spec.kind}-{hashlib.sha256(canonical.encode()).hexdigest()[:12]}"


def _deciding(spec: Spec) -> dict[str, Any]:
    """A spec's fields that decide its output, as JSON."""
    fields = type(spec).model_fields
    unset = {name for name in spec.added if getattr(spec, name) == fields[name].default}
    without = {*unset, "cache", "grow", "skipped_files", "skipped_rows"}
    values = spec.model_dump(mode="json", exclude=without)
    for name in ("inputs", "data"):
        if name in values:
            values[name] = [_deciding(file) for file in getattr(spec, name)]
    return values


def parse_spec(text: str) -> AnySpec:
    """Read a spec back from the ledger, with every check done again.

    Raises:
        JobError: the text is no spec, or one of a version that this software does not know.
    """
    try:
        raw: dict[str, Any] = json.loads(text)
        kinds: dict[str, type[LabelSpec] | type[TrainSpec]]
        kinds = {"label": LabelSpec, "train": TrainSpec}
        return kinds[raw["kind"]].model_validate(raw)
    except (ValueError, KeyError, TypeError, ValidationError) as error:
        raise JobError(f"the job's spec cannot be read by this version: {error}") from error
