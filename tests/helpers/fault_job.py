"""A label job on real workers and a redis-server of its own, for injecting faults into."""

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psutil
import redis
from sentinels import Trio
from support import Mtl, RedisServer, Workers, wait_until

from jobs.label.relabel import prepare_relabel
from jobs.label.request import LabelRequest
from jobs.label.submit import open_label, plan_label
from jobs.ledger.ledger import Ledger
from jobs.ledger.messages import Publisher
from jobs.ledger.presence import BUSY, Presence
from jobs.ledger.scripts import key
from jobs.settings import Settings
from mtl_core.storage.folder import Folder

ROWS, SHARD_ROWS = 2000, 10
LEASE_S = 3.0
# float32: a text's vector does not depend on its neighbours in the batch then.
WORKER = {
    "MTL_LEASE_S": "3",
    "MTL_BEAT_S": "0.5",
    "MTL_RECONCILE_S": "1",
    "MTL_PRECISION": "float32",
    "MTL_THREADS": "1",
}
WORDS = (
    *("film", "goal", "bank", "robot", "war", "dull"),
    *("superb", "profit", "match", "planet", "minister", "charming"),
)


def write_sentences(path: Path, rows: int, long_row: int | None = None) -> Path:
    generator = random.Random(5)
    lines = [f"{' '.join(generator.choices(WORDS, k=6))},{row}" for row in range(rows)]
    if long_row is not None:
        lines[long_row] = f"{' '.join(WORDS * 200)},{long_row}"
    path.write_text("\n".join(["text,n", *lines]) + "\n")
    return path


def undisturbed_job(folder: Path) -> pd.DataFrame:
    """The same job without any fault; its output's rows in order."""
    source = write_sentences(folder / "in.csv", ROWS)
    environment = {**os.environ, **WORKER, "MTL_STATE_DIR": str(folder / "state")}
    command = [sys.executable, "-m", "jobs", "label", source, "-o", folder / "out", "-q"]
    subprocess.run([*command, "--shard-rows", "500"], env=environment, check=True)
    return pd.read_parquet(folder / "out").sort_values("row_id").reset_index(drop=True)


@dataclass
class Job:
    """One label job on real workers and a redis-server of its own."""

    mtl: Mtl
    redis: RedisServer | Trio
    workers: Workers
    folder: Path
    undisturbed: pd.DataFrame
    id: str = ""
    name: str = "out"
    """Of the output's folder."""

    @property
    def output(self) -> Path:
        return self.folder / self.name

    @property
    def ledger(self) -> Ledger:
        return Ledger(self.redis.url, Settings(lease_s=LEASE_S, beat_s=0.5))

    def run(self, *arguments: str | Path) -> Any:
        return self.mtl(*arguments, MTL_REDIS_URL=self.redis.url, **WORKER)

    def submit(self, *options: str, rows: int = ROWS, long_row: int | None = None) -> None:
        source = write_sentences(self.folder / "in.csv", rows, long_row)
        arguments = ("label", source, "-o", self.output, "--shard-rows", str(SHARD_ROWS), *options)
        done = self.run(*arguments, "--detach", "--json")
        assert done.code == 0, done.err
        self.id = json.loads(done.out)["id"]

    def relabel(self) -> None:
        """Submit the labelling anew of the output, which becomes that of the new job.

        Not by the command, which cuts no shards as small as these.
        """
        target = self.folder / f"{self.name}2"
        request = LabelRequest((), str(target), "default", shard_rows=SHARD_ROWS)
        new = prepare_relabel(Folder(self.output), request, Settings())
        open_label(self.ledger, new, "normal")
        publisher = Publisher(self.redis.url)
        plan_label(self.ledger, publisher, new, lambda: None)
        publisher.close()
        self.id, self.name = new.id, target.name

    def parts(self) -> int:
        return len(list(self.output.glob("part-*.parquet")))

    def wait_for_parts(self, more: int = 5) -> None:
        target = self.parts() + more
        wait_until(lambda: self.parts() >= target, 60, f"{target} parts")

    def wait_done(self, timeout_s: float = 60) -> float:
        return wait_until(lambda: (self.output / "_SUCCESS").exists(), timeout_s, "the job's end")

    def attempts(self, outcome: str) -> list[dict[str, Any]]:
        return [a for a in self.ledger.attempts(self.id) if a["outcome"] == outcome]

    def check(self, errors: int = 0, rows: int = ROWS, but: int = -1) -> None:
        """Verified, and labels and vectors (``but`` one row's) as in the undisturbed run."""
        verified = self.run("verify", self.output, "--json")
        assert verified.code == 0, verified.err
        counts = json.loads(verified.out)["rows"]
        assert (counts["total"], counts["errors"]) == (rows, errors)
        frame = pd.read_parquet(self.output).sort_values("row_id").reset_index(drop=True)
        frame = frame[frame["row_id"] != but]
        same = self.undisturbed[self.undisturbed["row_id"].isin(frame["row_id"])]
        for column in ("topic", "sentiment"):
            assert frame[column].tolist() == same[column].tolist()
        vectors = [np.stack(list(f["embedding"])) for f in (frame, same)]
        assert np.abs(vectors[0] - vectors[1]).max() < 1e-3


def child_of(worker: subprocess.Popen[bytes]) -> psutil.Process:
    (child,) = psutil.Process(worker.pid).children()
    return child


def stop_in_mid_shard(ledger: Ledger, job: str, *pids: int) -> int:
    """SIGSTOP processes of a job's only worker in a moment in which it is at work on a shard.

    Not in one in which it only has the next shard ready: that would be given back, not lost.

    Returns:
        how many shards it holds; three at most.
    """
    presence = Presence(ledger.redis)

    def is_at_work() -> bool:
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        time.sleep(0.05)  # what it had sent to Redis has been carried out by then
        holders = {shard: ledger.holder(job, shard) for shard in ledger.shards(job)}
        held = {(shard, holder["token"]) for shard, holder in holders.items() if holder}
        said = (busy for worker in presence.workers() for busy in presence.busy(worker))
        if any((busy.shard, busy.token) in held and not busy.idle for busy in said):
            return True
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
        return False

    wait_until(is_at_work, 20, "the worker is at work on a shard")
    return sum(ledger.holder(job, shard) is not None for shard in ledger.shards(job))


class Killer(threading.Thread):
    """SIGKILLs whoever says it works on a shard with one row, every time: that row is poison.

    The row should be a long text (``write_sentences(long_row=...)``), so that there is time.
    """

    def __init__(self, job: Job, row: int) -> None:
        super().__init__(daemon=True)
        self.client, self.job, self.row = job.redis.client(), job.id, row
        self.kills = 0
        self.in_reach = False
        self._over = threading.Event()

    def run(self) -> None:
        """Look and kill until :meth:`stop`."""
        while not self._over.is_set():
            try:
                self.in_reach = self._look()
            except redis.RedisError:
                time.sleep(0.01)  # Redis is being restarted

    def _look(self) -> bool:
        found = False
        for name in self.client.keys(BUSY + "*"):
            for said, text in self.client.hgetall(name).items():
                # What a worker said that was killed as a whole outlives it.
                pid = int(said.partition(":")[0])
                _, shard, token, _, idle = json.loads(text)
                if not psutil.pid_exists(pid) or not self._holds_row(shard):
                    continue
                # It only asks for the shard as yet, or has it behind another.
                if idle or not self._claimed(shard, token):
                    continue
                found = True
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                    self.kills += 1
                    # Until the worker's parent has seen it, its word stands: do not count twice.
                    wait_until(lambda n=name, f=said: self._seen_dead(n, f), 20, "seen dead")
        return found

    def _claimed(self, shard: str, token: str) -> bool:
        holder = self.client.hget(key(self.job, "holders"), shard)
        return holder is not None and json.loads(holder)["token"] == token

    def _seen_dead(self, name: str, said: str) -> bool:
        """Whether the child's worker took back its word, or is dead itself."""
        parent = int(name.split(":")[-2])
        return not psutil.pid_exists(parent) or not self.client.hexists(name, said)

    def _holds_row(self, name: str) -> bool:
        if int(name.split(".")[0]) != self.row // SHARD_ROWS:
            return False
        text = self.client.hget(key(self.job, "shards"), name)
        if text is None:
            return False
        shard = json.loads(text)
        first = int(shard["file"][6:11]) * SHARD_ROWS + shard.get("offset", 0)
        return bool(first <= self.row < first + shard["rows"])

    def stop(self) -> None:
        """End it."""
        self._over.set()
        self.join()
        self.client.close()
