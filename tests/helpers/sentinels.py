"""A primary, two replicas and three Sentinels: real processes, to be killed and stopped."""

import os
import signal
import subprocess
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import redis
from support import free_port, wait_until

from jobs.embedded import redis_server_binary
from jobs.ledger.connection import client

NAME = "mymaster"
PASSWORD, SENTINEL_PASSWORD = "hunter2/of:redis", "hunter2-of-sentinels"
QUOTED = "hunter2%2Fof%3Aredis"
DOWN_AFTER_MS = 1500

Process = subprocess.Popen[bytes]


@dataclass
class Trio:
    """Three Redis, of which one is the primary, and three Sentinels that watch it."""

    folder: Path
    min_replicas: int = 1
    servers: dict[int, Process] = field(default_factory=dict)
    """By port."""
    sentinels: dict[int, Process] = field(default_factory=dict)

    @property
    def url(self) -> str:
        """Its address."""
        hosts = ",".join(f"127.0.0.1:{port}" for port in self.sentinels)
        own = f"sentinel_password={SENTINEL_PASSWORD}"
        return f"redis+sentinel://:{QUOTED}@{hosts}/{NAME}/0?{own}"

    def start(self) -> None:
        """Start all; returns when each Sentinel knows the others and both replicas."""
        first = free_port()
        self._start_server(first)
        for _ in range(2):
            self._start_server(free_port(), "--replicaof", "127.0.0.1", str(first))
        # A Sentinel asks for replicas as it starts, and then every 10 s only.
        wait_until(lambda: self._followed_by(first) == 2, 30, "both replicas follow")
        for _ in range(3):
            self._start_sentinel(free_port(), first)
        wait_until(lambda: all(map(self._sees_all, self.sentinels)), 30, "the Sentinels are ready")

    def _start_server(self, port: int, *more: str) -> None:
        folder = self.folder / str(port)
        folder.mkdir()
        command = [
            *(redis_server_binary(), "--port", str(port), "--bind", "127.0.0.1"),
            *("--dir", str(folder), "--save", "", "--appendonly", "yes"),
            *("--requirepass", PASSWORD, "--masterauth", PASSWORD),
            *("--repl-diskless-sync-delay", "0", "--maxmemory-policy", "noeviction"),
            *("--min-replicas-to-write", str(self.min_replicas), "--min-replicas-max-lag", "10"),
            *more,
        ]
        self.servers[port] = _start(command, folder / "log")

    def _start_sentinel(self, port: int, primary: int) -> None:
        file = self.folder / f"sentinel-{port}.conf"
        lines = [
            *(f"port {port}", "bind 127.0.0.1", f"dir {self.folder}"),
            *(f"requirepass {SENTINEL_PASSWORD}", f"sentinel sentinel-pass {SENTINEL_PASSWORD}"),
            f"sentinel monitor {NAME} 127.0.0.1 {primary} 2",
            f"sentinel auth-pass {NAME} {PASSWORD}",
            f"sentinel down-after-milliseconds {NAME} {DOWN_AFTER_MS}",
            f"sentinel failover-timeout {NAME} 6000",
        ]
        file.write_text("\n".join(lines) + "\n")
        command = [redis_server_binary(), str(file), "--sentinel"]
        self.sentinels[port] = _start(command, file.with_suffix(".log"))

    def _sees_all(self, port: int) -> bool:
        with suppress(redis.RedisError, KeyError):
            state = redis.Redis(port=port, password=SENTINEL_PASSWORD).sentinel_masters()[NAME]
            return bool(state["num-other-sentinels"] == 2 and state["num-slaves"] == 2)
        return False

    def _followed_by(self, port: int) -> int:
        with suppress(redis.RedisError):
            return int(self.of(port).info("replication")["connected_slaves"])
        return 0

    def client(self) -> redis.Redis:
        """A client of whichever is the primary; waits while there is none."""
        return client(self.url, patience=30)

    def of(self, port: int) -> redis.Redis:
        """A client of one server."""
        return redis.Redis(port=port, password=PASSWORD, decode_responses=True, socket_timeout=5)

    @property
    def primary(self) -> int:
        """The port of the primary."""
        return int(self.client().config_get("port")["port"])

    def signal(self, number: signal.Signals, *ports: int) -> None:
        """Send a signal to servers."""
        for port in ports:
            self.servers[port].send_signal(number)
            if number is signal.SIGKILL:
                self.servers[port].wait()

    def stop(self) -> None:
        """End all."""
        for process in (*self.sentinels.values(), *self.servers.values()):
            for number in (signal.SIGCONT, signal.SIGKILL):
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, number)
            process.wait()


def _start(command: list[str], log: Path) -> Process:
    with log.open("wb") as output:
        return subprocess.Popen(
            command, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
