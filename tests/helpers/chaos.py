"""Chaos: one label job, killed workers, a poison row and a restarted Redis, all at random.

``python tests/helpers/chaos.py --seeds 20`` runs it over and over, ``tests/whole/test_chaos.py``
one seed.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd
from fault_job import SHARD_ROWS, WORKER, Job, Killer, write_sentences
from support import Ran, RedisServer, Workers, pace

SHARDS, KILLS, LIMIT_S = 400, 8, 300
ROWS = SHARDS * SHARD_ROWS


def run_mtl(*arguments: str | Path, **environment: str) -> Ran:
    """Run ``mtl`` to its end."""
    command = [sys.executable, "-m", "jobs", *map(str, arguments)]
    environment = {**os.environ, **environment}
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=120 * pace()
    )
    return Ran(done.returncode, done.stdout, done.stderr)


def undisturbed(folder: Path) -> pd.DataFrame:
    """The same job without any fault."""
    folder.mkdir(parents=True, exist_ok=True)
    source = write_sentences(folder / "in.csv", ROWS)
    environment = {**WORKER, "MTL_THREADS": "2", "MTL_STATE_DIR": str(folder / "state")}
    done = run_mtl("label", source, "-o", folder / "out", "-q", **environment)
    assert done.code == 0, done.err
    return pd.read_parquet(folder / "out").sort_values("row_id").reset_index(drop=True)


def chaos(seed: int, folder: Path, expected: pd.DataFrame) -> float:
    """One run; returns its seconds. Raises AssertionError unless every row is there once."""
    generator = random.Random(seed)
    poison = generator.randrange(ROWS)
    kill_at = sorted(generator.sample(range(10, 330), KILLS))  # by parts made, so all of them come
    restart_at = generator.randrange(20, 300)
    redis_server = RedisServer(Path(tempfile.mkdtemp(prefix="chaos")))
    redis_server.start()
    workers = Workers(redis_server.url, folder, WORKER)
    job = Job(run_mtl, redis_server, workers, folder, expected)
    try:
        started = time.monotonic()
        job.submit(rows=ROWS, long_row=poison)
        killer = Killer(job, poison)
        killer.start()
        alive = [workers.start(), workers.start()]
        while not (job.output / "_SUCCESS").exists():
            assert time.monotonic() - started < LIMIT_S * pace(), (
                f"seed {seed}: {workers.logs()[-3000:]}"
            )
            if kill_at and job.parts() >= kill_at[0]:
                kill_at.pop(0)
                workers.kill(alive.pop(generator.randrange(2)))
                alive.append(workers.start())
            # Not while a worker has the poison row: it would escape its killer.
            if restart_at is not None and job.parts() >= restart_at and not killer.in_reach:
                restart_at = None
                redis_server.signal(signal.SIGKILL)
                time.sleep(generator.random())
                redis_server.start()
            time.sleep(0.005)
        seconds = time.monotonic() - started
        killer.stop()
        assert not kill_at
        assert restart_at is None
        for worker in alive:
            assert worker.poll() is None, f"a worker died by itself: {workers.logs()[-5000:]}"
        job.check(errors=1, rows=ROWS)
        (error,) = pd.read_parquet(
            next((job.output / "errors").glob("*.parquet")), columns=["row_id"]
        )["row_id"]
        assert error == poison
        done = [a["shard"] for a in job.attempts("done")]
        assert len(done) == len(set(done)), "a shard was completed twice"
        return seconds
    finally:
        for worker in workers.running:
            if worker.poll() is None:
                workers.kill(worker)
        redis_server.stop()


def main() -> None:
    """Run many seeds and print a line each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--first", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as root:
        expected = undisturbed(Path(root) / "undisturbed")
        for seed in range(options.first, options.first + options.seeds):
            folder = Path(root) / f"seed-{seed}"
            folder.mkdir()
            seconds = chaos(seed, folder, expected)
            print(
                json.dumps({"seed": seed, "seconds": round(seconds, 1), "rows": ROWS}), flush=True
            )


if __name__ == "__main__":
    main()
