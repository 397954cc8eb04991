"""What ``_manifest.json`` holds: what a label job made, of what and by what.

Its fields are written in the order in which they stand here. A field with a default may be
missing in outputs of earlier versions. Fields that a later version adds are kept, but not used.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
)

from jobs.specs import InputFile


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="allow", protected_namespaces=())

    left_out: ClassVar[frozenset[str]] = frozenset()
    """Fields that are not written where they are empty or say what they say by default, as earlier
    versions did not write them."""

    @model_serializer(mode="wrap")
    def _without_empty(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        written: dict[str, Any] = write(self)
        fields = type(self).model_fields
        return {
            key: value
            for key, value in written.items()
            if key not in self.left_out or (value and value != fields[key].default)
        }


class Rows(_Record):
    """Rows by what became of them."""

    left_out: ClassVar[frozenset[str]] = frozenset({"untypical"})

    total: int
    """All rows of the input."""
    labelled: int
    errors: int
    truncated: int
    duplicates: int = 0
    """Labelled with the answer for an equal text of the same shard."""
    cached: int = 0
    """Labelled with an answer of the cache."""
    untypical: dict[str, int] = {}
    """By task, rows whose typicality is below 0.05; empty where the model has no statistics."""


class Input(InputFile):
    """An input file; unlike a spec's, it may have fields that a later version added."""

    model_config = ConfigDict(extra="ignore")

    generation: int = 1
    """The generation that its rows belong to."""


class ModelFacts(_Record):
    """The model that labelled."""

    left_out: ClassVar[frozenset[str]] = frozenset({"typicality_sha256"})

    name: str
    sha256: str
    backbone_sha256: str
    typicality_sha256: str = ""
    """SHA-256 of its statistics of typicality; empty: it has none."""
    tasks: dict[str, tuple[str, ...]]
    """The labels of each task written."""


class EngineFacts(_Record):
    """An engine that computed parts, and its precision."""

    engine: str
    precision: str


class Column(_Record):
    """A column of the parts, with its type as Arrow writes it."""

    name: str
    type: str


class Part(_Record):
    """A part, with what its worker said of it."""

    left_out: ClassVar[frozenset[str]] = frozenset({"untypical", "generation"})

    shard: str
    part: str
    """Its file's name."""
    rows: int
    failed: int = 0
    errors: str = ""
    """Name of the file with the rows that could not be labelled; empty: there were none."""
    bytes: int = 0
    sha256: str
    attempt: int = 0
    worker: str
    tokens: int = 0
    """Tokens that were encoded for the part, special tokens included."""
    duplicates: int = 0
    cached: int = 0
    truncated: int = 0
    untypical: dict[str, int] = {}
    """By task, rows whose typicality is below 0.05; empty where the model has no statistics."""
    engine: str
    precision: str
    finished_s: float | None = None
    """Seconds since the epoch."""
    seconds: dict[str, float] = {}
    """How long each step took."""
    generation: int = 1


class ErrorRows(_Record):
    """A file of rows that were not labelled."""

    left_out: ClassVar[frozenset[str]] = frozenset({"generation"})

    file: str
    """Its name within the output."""
    rows: int
    sha256: str
    generation: int = 1


class Generation(_Record):
    """What one job brought into an output: the first made it, each later one was appended."""

    left_out: ClassVar[frozenset[str]] = frozenset({"skipped_files", "skipped_rows"})

    number: int
    """From 1."""
    job: str
    state: str
    rows: Rows
    first_row_id: int
    """Its rows are numbered on from here, ``rows.total`` of them."""
    tokens: int
    skipped_files: int = 0
    """Files given that were in the output already."""
    skipped_rows: int = 0
    """Rows of new files that were in the output already."""
    attempts: dict[str, int]
    created: str
    finished: str
    seconds: float


def sum_counts(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    """The sums of counts by name, the names in the order in which they first come."""
    total: Counter[str] = Counter()
    for some in counts:
        total.update(some)
    return dict(total)


class Manifest(_Record):
    """The whole manifest."""

    left_out: ClassVar[frozenset[str]] = frozenset(
        {"min_typicality", "relabels", "labelled_files", "id_column", "generations"}
    )

    format: int = 1
    job: str
    state: str
    rows: Rows
    tokens: int
    inputs: tuple[Input, ...]
    relabels: str = ""
    """Path or address of the output that was labelled anew, whose parts are the inputs."""
    labelled_files: tuple[str, ...] = ()
    """SHA-256 of the files whose rows an output labelled anew holds; empty: its inputs are they."""
    limit: int | None = None
    id_column: str = ""
    """The input's column checked to hold another value in every row; empty: none was."""
    text_columns: tuple[str, ...] = ()
    """Empty in the oldest outputs, where ``text_column`` is the only one."""
    text_column: str
    model: ModelFacts
    embedding: str
    thresholds: dict[str, float] = {}
    min_typicality: float = 0.0
    engines: tuple[EngineFacts, ...]
    columns: tuple[Column, ...] = Field(alias="schema")
    parts: tuple[Part, ...]
    errors: tuple[ErrorRows, ...]
    attempts: dict[str, int]
    """How many attempts ended in each way."""
    created: str
    finished: str
    seconds: float
    """Seconds from the submit to the end; of several generations, their sum."""
    software: dict[str, str]
    generations: tuple[Generation, ...] = ()
    """Empty where nothing has been appended: all there is, is of generation 1."""

    @property
    def has_typicality(self) -> bool:
        """Whether the parts have a column of typicality for each task."""
        return bool(self.model.typicality_sha256)

    @property
    def own_columns(self) -> list[str]:
        """The user's own columns, as they are written: they stand before the labels."""
        names = [column.name for column in self.columns]
        first = next(iter(self.model.tasks))
        return names[1 : names.index(first)] if first in names else []

    @property
    def first_row_id(self) -> int:
        """The ``row_id`` from which its rows are numbered; not 0 in a later generation alone."""
        return self.generations[0].first_row_id if self.generations else 0

    @property
    def last_generation(self) -> int:
        """The number of the newest generation."""
        return self.generations[-1].number if self.generations else 1

    def as_json(self) -> dict[str, Any]:
        """The content of ``_manifest.json``."""
        without = {"inputs": {"__all__": {"version"}}}
        written = self.model_dump(mode="json", by_alias=True, exclude=without)
        for file in written["inputs"]:
            if not file["kept"]:  # earlier versions did not write it
                del file["kept"]
            if file["generation"] == 1:  # likewise
                del file["generation"]
        return written
