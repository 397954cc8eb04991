"""Several hosts on a network of their own, and a link that is cut in mid-job."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import psutil
import pytest
from fault_job import LEASE_S, WORKER, child_of, write_sentences
from hosts import Host, network, require_namespaces
from support import RedisServer, Workers, pace, wait_until

from jobs.ledger.ledger import Ledger
from jobs.settings import Settings

pytestmark = [pytest.mark.slow, pytest.mark.faults]
ROWS = 800


@dataclass
class RedisOn(RedisServer):
    """A redis-server on a host of the network; the test itself talks to its socket."""

    host: Host | None = None

    @property
    def over_the_network(self) -> str:
        """Its address for the other hosts."""
        assert self.host is not None
        return f"redis://{self.host.address}:6379/0"

    def command(self) -> list[str]:
        assert self.host is not None
        listen = ["--bind", self.host.address, "--protected-mode", "no"]
        return [*self.host.prefix, *super().command(), *listen, "--port", "6379"]


@dataclass
class Cluster:
    """A Redis, two worker hosts and one that submits."""

    redis: RedisOn
    workers: Workers
    hosts: dict[str, Host]
    folder: Path

    def mtl(self, *arguments: str | Path) -> str:
        """Run the command on the submitting host."""
        done = subprocess.run(
            [*self.hosts["desk"].prefix, sys.executable, "-m", "jobs", *map(str, arguments)],
            env={**os.environ, **WORKER, "MTL_REDIS_URL": self.redis.over_the_network},
            capture_output=True, text=True, timeout=60 * pace(),
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    def submit(self, name: str, rows: int) -> str:
        source = write_sentences(self.folder / f"{name}.csv", rows)
        arguments = ("label", source, "-o", self.folder / name, "--shard-rows", "10")
        return str(json.loads(self.mtl(*arguments, "--detach", "--json"))["id"])

    def worker_on(self, name: str) -> subprocess.Popen[bytes]:
        state = str(self.folder / f"state-{name}")
        return self.workers.start(prefix=self.hosts[name].prefix, MTL_STATE_DIR=state)

    @property
    def ledger(self) -> Ledger:
        return Ledger(self.redis.url, Settings(lease_s=LEASE_S, beat_s=0.5))

    def check(self, name: str, rows: int) -> None:
        """Every row is there once, for readers of the folder too."""
        assert f"{rows:,} input rows = {rows:,} labelled" in self.mtl("verify", self.folder / name)
        assert sorted(pd.read_parquet(self.folder / name)["row_id"]) == list(range(rows))


@pytest.fixture
def cluster(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    require_namespaces()
    with network("redis", "near", "far", "desk") as hosts:
        by_name = {host.name: host for host in hosts}
        server = RedisOn(tmp_path_factory.mktemp("r"), host=by_name["redis"])
        server.start()
        workers = Workers(server.over_the_network, tmp_path, WORKER)
        try:
            yield Cluster(server, workers, by_name, tmp_path)
        finally:
            for process in workers.running:
                if process.poll() is None:
                    workers.kill(process)
            server.stop()


def stop_while_it_holds_shards(cluster: Cluster, job: str, child: psutil.Process) -> set[str]:
    """SIGSTOP a worker's child in the middle of a shard; returns all it holds (up to three)."""
    held: set[str] = set()

    def holds() -> bool:
        child.suspend()
        time.sleep(0.05)  # what it had sent has been carried out by then
        for shard in cluster.ledger.shards(job):
            holder = cluster.ledger.holder(job, shard)
            if holder and holder["worker"].startswith("far:"):
                held.add(shard)
        if not held:
            child.resume()
        return bool(held)

    wait_until(holds, 30, "the far host holds a shard")
    return held


def test_a_host_cut_off_in_mid_job_costs_no_row_and_doubles_none(
    cluster: Cluster, recovered: Callable[[str, float], None]
) -> None:
    far = cluster.worker_on("far")
    near = cluster.worker_on("near")
    job = cluster.submit("out", ROWS)
    output = cluster.folder / "out"
    wait_until(lambda: len(list(output.glob("part-*"))) > 20, 60, "parts")
    child = child_of(far)
    held = stop_while_it_holds_shards(cluster, job, child)
    cluster.hosts["far"].cut()

    def lost() -> list[str]:
        return sorted(a["shard"] for a in cluster.ledger.attempts(job) if a["outcome"] == "lost")

    seconds = wait_until(
        lambda: len(lost()) >= len(held), LEASE_S + 6, "the far host's leases are ended"
    )
    recovered("a worker's host is cut off from the network", seconds)
    assert lost() == sorted(held)
    wait_until((output / "_SUCCESS").exists, 40, "the job ends without the far host")
    child.resume()  # slow and cut off, it labels its shard and knows of nothing
    time.sleep(2)
    cluster.check("out", ROWS)

    cluster.hosts["far"].mend()
    refused = [f"{job}/{shard}: stale" for shard in held]
    wait_until(
        lambda: all(each in cluster.workers.log(far) for each in refused), 30, "its word is refused"
    )
    cluster.check("out", ROWS)
    # And it is back: the next job is its alone.
    os.killpg(near.pid, signal.SIGKILL)
    near.wait()
    second = cluster.submit("second", 50)
    wait_until((cluster.folder / "second/_SUCCESS").exists, 40, "the far host works again")
    cluster.check("second", 50)
    assert {a["worker"].partition(":")[0] for a in cluster.ledger.attempts(second)} == {"far"}
