"""Running the ledger's Lua scripts (``jobs/ledger/lua``) on the keys of one job."""

import time
from functools import cached_property
from importlib.resources import files
from typing import Any

import redis
from redis.commands.core import Script

PARTS = (
    *("job", "shards", "pending", "leases", "holders"),
    *("attempts", "strikes", "done", "poison", "history", "split"),
    *("declined", "failing"),
)
"""A job's keys, in the order in which scripts take them; ``ledger.py`` says what each is."""


def key(job: str, part: str) -> str:
    """The Redis key of one part of a job."""
    return f"mtl:{{{job}}}:{part}"


def keys_of(job: str) -> list[str]:
    """All keys of a job."""
    return [key(job, part) for part in PARTS]


class Scripts:
    """Runs the scripts on one client. Each is sent once, and then called by its checksum."""

    def __init__(self, client: redis.Redis, patience: int) -> None:
        """Keep the client.

        Args:
            patience: how often a script is tried again while Redis is full, a second apart.
        """
        self.redis, self._patience = client, patience
        self._known: dict[str, Script] = {}

    @cached_property
    def _prelude(self) -> str:
        return (files("jobs.ledger") / "lua" / "prelude.lua").read_text()

    def run(self, script: str, job: str, *arguments: Any) -> Any:
        """Run a script on a job's keys, and return its answer.

        Raises:
            redis.OutOfMemoryError: Redis is full.
        """
        if script not in self._known:
            source = (files("jobs.ledger") / "lua" / f"{script}.lua").read_text()
            self._known[script] = self.redis.register_script(self._prelude + source)
        for tries_left in range(self._patience, -1, -1):
            try:
                return self._known[script](keys=keys_of(job), args=arguments)
            except redis.ResponseError as error:
                # Redis 6 reports a full memory within a script as an error of the script. It
                # refuses only the first write of a script, so nothing has been changed.
                if "OOM command" not in str(error):
                    raise
                if not tries_left:
                    raise redis.OutOfMemoryError("Redis is full") from error
                time.sleep(1.0)
        raise AssertionError("unreachable")
