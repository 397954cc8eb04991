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
    """Fields that are not written where they are empty, as earlier versions did not write them."""

    @model_serializer(mode="wrap")
    def _without_empty(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        written: dict[str, Any] = write(self)
        return {key: value for key, value in written.items() if value or key not in self.left_out}


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

    left_out: ClassVar[frozenset[str]] = frozenset({"untypical"})

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


class ErrorRows(_Record):
    """A file of rows that were not labelled."""

    file: str
    """Its name within the output."""
    rows: int
    sha256: str


def sum_counts(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    """The sums of counts by name, the names in the order in which they first come."""
    total: Counter[str] = Counter()
    for some in counts:
        total.update(some)
    return dict(total)


class Manifest(_Record):
    """The whole manifest."""

    left_out: ClassVar[frozenset[str]] = frozenset({"min_typicality", "relabels"})

    format: int = 1
    job: str
    state: str
    rows: Rows
    tokens: int
    inputs: tuple[Input, ...]
    relabels: str = ""
    """Path or address of the output that was labelled anew, whose parts are the inputs."""
    limit: int | None = None
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
    """Seconds from the submit to the end."""
    software: dict[str, str]

    @property
    def has_typicality(self) -> bool:
        """Whether the parts have a column of typicality for each task."""
        return bool(self.model.typicality_sha256)

    def as_json(self) -> dict[str, Any]:
        """The content of ``_manifest.json``."""
        without = {"inputs": {"__all__": {"version"}}}
        written = self.model_dump(mode="json", by_alias=True, exclude=without)
        for file in written["inputs"]:
            if not file["kept"]:  # earlier versions did not write it
                del file["kept"]
        return written
