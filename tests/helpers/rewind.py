"""Redis losing its last writes, as a replica has that took over: real keys, put back."""

import redis

from jobs.ledger.ledger import Ledger
from jobs.ledger.scripts import keys_of


class Rewind:
    """Remembers the keys of a job, and puts them back later."""

    def __init__(self, ledger: Ledger, job: str) -> None:
        self._redis = redis.Redis.from_url(ledger.url)
        self._kept = {key: self._redis.dump(key) for key in keys_of(job)}

    def __call__(self) -> None:
        pipe = self._redis.pipeline()  # at once, as a client sees a fail-over
        for key, value in self._kept.items():
            pipe.delete(key)
            if value is not None:
                pipe.restore(key, 0, value)
        pipe.execute()


def finish_by_setting_aside(ledger: Ledger, job: str) -> None:
    """Fail every row of a job so often that it is set aside: an output without a model's work."""
    while not ledger.snapshot(job).settled:
        done = {**ledger.results(job), **ledger.poisoned(job)}
        for shard in set(ledger.shards(job)) - set(done):
            token = f"{shard}-{ledger.snapshot(job).attempts['failed']}"
            ledger.claim(job, shard, token, token)
            ledger.fail(job, shard, token, "bad")
