"""A shard that this worker holds."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from jobs.output.layout import error_name, part_name
from jobs.specs import AnySpec


@dataclass(frozen=True)
class Attempt:
    """One attempt at a shard: what is to be done, under which lease."""

    job: str
    spec: AnySpec
    shard: str
    token: str
    """The lease's."""
    number: int
    """Of this shard's attempts, from 1."""
    definition: Mapping[str, Any]
    """The shard as planned: ``file`` and ``rows``, of a piece of a split shard also ``offset``."""
    worker: str

    @property
    def part(self) -> str:
        """Name of the part that it writes, in the output folder of a label job."""
        return part_name(self.shard, self.number, self.token)

    @property
    def errors(self) -> str:
        """Name of its file of rows that could not be labelled."""
        return error_name(self.shard, self.number, self.token)
