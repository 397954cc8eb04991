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
    """Token of the lease."""
    number: int
    """Number of the attempt among those at this shard, from 1."""
    definition: Mapping[str, Any]
    """The shard as planned: ``file`` and ``rows``; a piece of a split shard also has ``offset``."""
    worker: str

    @property
    def part(self) -> str:
        """Name of the part that the attempt writes into the output folder of a label job."""
        return part_name(self.shard, self.number, self.token)

    @property
    def errors(self) -> str:
        """Name of the attempt's file of rows that could not be labelled."""
        return error_name(self.shard, self.number, self.token)
