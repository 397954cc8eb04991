"""What several test modules build on: made-up texts, real worker processes, the real command."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np
import redis

from jobs.embedded import redis_server_binary

REPOSITORY = Path(__file__).parents[2]
FAST_PRODUCTS = 8e11
"""Floating-point operations a second of the machine that the waits were written for."""
WORDS = {
    "topic": [
        "minister election war treaty embassy troops",
        "match goal coach league striker tournament",
        "shares profit market bank merger revenue",
        "software chip planet internet robot telescope",
    ],
    "sentiment": [
        "dull awful tedious clumsy boring",
        "superb charming moving brilliant delightful",
    ],
}


def made_texts(task: str, rows: int, seed: int) -> tuple[list[str], list[int]]:
    """Texts whose class shows in their words, and the classes."""
    generator = np.random.default_rng(seed)
    groups = [words.split() for words in WORDS[task]]
    labels = [row % len(groups) for row in range(rows)]
    texts = [
        " ".join(generator.choice(groups[label], size=generator.integers(3, 12)))
        for label in labels
    ]
    return texts, labels


@cache
def pace() -> float:
    """How much longer than on a fast machine a wait may last here, 1 to 10; measured once.

    Waits in the tests are written for two cores that multiply bfloat16 matrices (AVX-512); the
    products that this machine does in a second, in whichever of the product's two precisions is
    the faster here and with what else runs on it now, say how far behind that it is.
    """
    import torch

    fastest = 0.0
    for kind, size in ((torch.float32, 768), (torch.bfloat16, 192)):
        matrix = torch.ones(size, size, dtype=kind)
        for _ in range(6):
            started = time.perf_counter()
            matrix @ matrix
            fastest = max(fastest, 2 * size**3 / (time.perf_counter() - started))
    return min(10.0, max(1.0, FAST_PRODUCTS / (fastest * min(2, os.cpu_count() or 1))))


@dataclass
class Workers:
    """Starts worker processes and kills them for real."""

    url: str
    folder: Path
    environment: dict[str, str]
    running: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start(self, prefix: Sequence[str] = (), **environment: str) -> subprocess.Popen[bytes]:
        """Start one worker in a session of its own.

        Args:
            prefix: what its command line begins with.
        """
        with (self.folder / f"worker-{len(self.running)}.log").open("wb") as log:
            process = subprocess.Popen(
                [*prefix, sys.executable, "-m", "worker"],
                env={**os.environ, **self.environment, "MTL_REDIS_URL": self.url, **environment},
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        self.running.append(process)
        return process

    def kill(self, process: subprocess.Popen[bytes]) -> None:
        """SIGKILL a worker with all its children."""
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def log(self, process: subprocess.Popen[bytes]) -> str:
        """What one worker printed."""
        return (self.folder / f"worker-{self.running.index(process)}.log").read_text()

    def logs(self) -> str:
        """What all workers printed."""
        return "\n".join(path.read_text() for path in sorted(self.folder.glob("worker-*.log")))


@dataclass(frozen=True)
class Ran:
    """A finished ``mtl`` process."""

    code: int
    out: str
    err: str


Mtl = Callable[..., Ran]


@dataclass
class RedisServer:
    """A redis-server of a test's own, with an append-only file, to be killed and started again."""

    folder: Path
    port: int = 0
    """On loopback; 0 for a socket in the folder."""
    password: str = ""
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Its address."""
        if self.port:
            return f"redis://:{self.password}@127.0.0.1:{self.port}/0"
        return f"unix://{self.folder}/r.sock?db=0"

    def command(self) -> list[str]:
        """What starts it."""
        where = ["--bind", "127.0.0.1", "--requirepass", self.password]
        if not self.port:
            where = ["--unixsocket", f"{self.folder}/r.sock"]
        return [
            *(redis_server_binary(), "--port", str(self.port), *where),
            *("--dir", str(self.folder), "--save", "", "--maxmemory-policy", "noeviction"),
            *("--appendonly", "yes", "--appendfsync", "everysec"),
        ]

    def start(self) -> None:
        """Start it, or start it again on the same data."""
        with (self.folder / "redis.log").open("ab") as log:
            self.process = subprocess.Popen(
                self.command(), stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )
        wait_until(self._answers, 10, "redis-server answers")

    def _answers(self) -> bool:
        try:
            return bool(self.client().ping())
        except redis.RedisError:
            return False

    def client(self) -> redis.Redis:
        """A plain client."""
        return redis.Redis.from_url(self.url, decode_responses=True)

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        assert self.process is not None
        self.process.send_signal(number)
        if number is signal.SIGKILL:
            self.process.wait()

    def stop(self) -> None:
        """End it, also when it is stopped."""
        self.signal(signal.SIGCONT)
        self.signal(signal.SIGKILL)


def wait_until(condition: Callable[[], bool], timeout_s: float, what: str) -> float:
    """Poll until a condition holds; returns the seconds it took.

    Args:
        timeout_s: of a fast machine; a slower one gets more (:func:`pace`).
    """
    started = time.monotonic()
    while not condition():
        if time.monotonic() - started > timeout_s * pace():
            raise AssertionError(f"not within {timeout_s * pace():.0f} s: {what}")
        time.sleep(0.05)
    return time.monotonic() - started


@contextmanager
def running_mtl(*arguments: str | Path, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """Start ``mtl`` and leave it running; killed at the end if it still is."""
    process = subprocess.Popen(
        [sys.executable, "-m", "jobs", *map(str, arguments)],
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # A shell starts background commands with SIGINT ignored, and children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def free_port() -> int:
    """A port of loopback that nobody uses."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def save_word_tokenizer(folder: Path) -> int:
    """Save a tokenizer of the made texts' words into a folder; returns the vocabulary's size."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    words = sorted({word for groups in WORDS.values() for text in groups for word in text.split()})
    vocabulary = {token: index for index, token in enumerate([*special, *words])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        special_tokens=[("[CLS]", vocabulary["[CLS]"]), ("[SEP]", vocabulary["[SEP]"])],
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
    ).save_pretrained(folder)
    return len(vocabulary)
