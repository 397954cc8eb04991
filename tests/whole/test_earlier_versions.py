"""What earlier versions left goes on: an output, and a job in the ledger that nobody has begun.

``before_the_rooms`` was written by the last version whose packages were flat (November 2026): an
output, and a planned job with its staged rows and all its keys in Redis.
"""

import json
from pathlib import Path

import pytest
import redis
from earlier import JOB, earlier_files
from support import Mtl, Workers, wait_until

from jobs.ledger.ledger import Ledger
from jobs.ledger.lifecycle import JobState
from jobs.settings import Settings

pytestmark = pytest.mark.slow


@pytest.fixture
def left(tmp_path: Path) -> Path:
    return earlier_files(tmp_path)


def test_an_output_of_an_earlier_version_is_verified_shown_collected_and_reported(
    left: Path, mtl: Mtl
) -> None:
    verified = mtl("verify", left / "done", "--input")
    assert verified.code == 0, verified.err
    assert "6 labelled + 1 error rows" in verified.out
    assert "Sports" in mtl("show", left / "done").out
    assert mtl("collect", left / "done", "-o", left / "rows.csv").code == 0
    assert len((left / "rows.csv").read_text().splitlines()) == 7
    assert mtl("report", left / "done", "-o", left / "page.html").code == 0


def test_a_job_that_an_earlier_version_planned_is_labelled_by_this_one(
    left: Path, mtl: Mtl, workers: Workers
) -> None:
    client = redis.Redis.from_url(workers.url, decode_responses=True)
    put = {
        "hash": lambda key, value: client.hset(key, mapping=value),
        "zset": client.zadd,
        "set": lambda key, value: client.sadd(key, *value),
        "list": lambda key, value: client.rpush(key, *value),
    }
    for key, (kind, value) in json.loads((left / "ledger.json").read_text()).items():
        put[kind](key, value)
    client.close()
    workers.start()
    ledger = Ledger(workers.url, Settings())
    wait_until(lambda: ledger.state(JOB) is JobState.DONE, 60, "the job is done")
    ledger.redis.close()
    assert mtl("verify", left / "half", "--input").code == 0
