"""Shared fixtures: a real redis-server, a tiny random backbone, real worker processes."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from s3_server import S3Server
from support import REPOSITORY, Mtl, Ran, Workers, made_texts, save_word_tokenizer
from support import pace as machine_pace

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

SHARED_DATA = Path(os.environ.get("MTL_TEST_DATA", REPOSITORY.parent / "shared" / "data"))

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
for name in [name for name in os.environ if name.startswith("MTL_") and name != "MTL_TEST_DATA"]:
    del os.environ[name]  # a developer's own settings must not steer the tests
if "PYTEST_XDIST_WORKER" in os.environ:  # which puts the tests' own modules before all programs'
    os.environ.pop("PYTHONPATH", None)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """A slow machine gets longer for each test, as it does for each wait within one."""
    if config.option.collectonly:
        return
    for item in items:
        own = item.get_closest_marker("timeout")
        seconds = own.args[0] if own else float(config.getini("timeout"))
        item.add_marker(pytest.mark.timeout(seconds * machine_pace()), append=False)


@pytest.fixture(scope="session")
def pace() -> float:
    """How much longer than on a fast machine a wait may last here."""
    return machine_pace()


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The real data sets; tests that need them skip where they are absent."""
    if not (SHARED_DATA / "ag_news" / "test.parquet").is_file():
        pytest.skip(f"needs the real data sets in {SHARED_DATA} (or MTL_TEST_DATA)")
    return SHARED_DATA


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Tiny models are slower on several threads; real processes choose their own number."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def shared_engines(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Compile a model once for the whole run, not once a test."""
    os.environ["MTL_ENGINE_DIR"] = str(tmp_path_factory.mktemp("engines"))


@pytest.fixture(autouse=True)
def own_state(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every test has a state folder of its own and reads its settings anew."""
    from jobs.settings import settings

    os.environ.pop("PYTHONSAFEPATH", None)  # a command that ran in this process has set it
    state = tmp_path_factory.mktemp("state")
    monkeypatch.setenv("MTL_STATE_DIR", str(state))
    settings.cache_clear()
    return state


@pytest.fixture(scope="session")
def made_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder laid out like the real one, with small made-up splits."""
    root = tmp_path_factory.mktemp("data")
    for folder, split, column, task, rows in (
        ("ag_news", "train", "text", "topic", 160),
        ("ag_news", "test", "text", "topic", 60),
        ("sst2", "train", "sentence", "sentiment", 120),
        ("sst2", "validation", "sentence", "sentiment", 40),
    ):
        texts, labels = made_texts(task, rows, seed=len(split))
        (root / folder).mkdir(exist_ok=True)
        table = pa.table({column: texts, "label": pa.array(labels, pa.int64())})
        pq.write_table(table, root / folder / f"{split}.parquet")
    return root


@pytest.fixture(scope="session")
def tiny_backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT of four small layers with random weights, as save_pretrained writes one."""
    import torch
    from transformers import BertConfig, BertModel

    folder = tmp_path_factory.mktemp("backbone") / "tiny-bert"
    words = save_word_tokenizer(folder)
    torch.manual_seed(1)
    config = BertConfig(
        vocab_size=words,
        hidden_size=32,
        num_hidden_layers=4,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
    )
    BertModel(config).save_pretrained(folder)
    return folder


# --- a real Redis


@pytest.fixture(scope="session")
def redis_session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """One real redis-server for the whole run; its URL."""
    from jobs.embedded import EmbeddedRedis

    with EmbeddedRedis(tmp_path_factory.mktemp("redis")) as server:
        yield server.url


@pytest.fixture
def redis_url(redis_session: str) -> Iterator[str]:
    """The real Redis, empty."""
    import redis

    client = redis.Redis.from_url(redis_session)
    client.flushall()
    yield redis_session
    client.close()


# --- a real object store


@pytest.fixture
def s3(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[S3Server]:
    """The server, and an environment in which this process and its children find it."""
    server = S3Server(tmp_path_factory.mktemp("s3") / "objects")
    server.folder.mkdir()
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    from mtl_core.storage.bucket import store_of

    store_of.cache_clear()
    server.start()
    yield server
    server.kill()


# --- real worker processes


@pytest.fixture
def workers(redis_url: str, tmp_path: Path) -> Iterator[Workers]:
    """Worker processes with short leases; all are killed at the end."""
    quick = {"MTL_LEASE_S": "3", "MTL_BEAT_S": "0.5", "MTL_RECONCILE_S": "1"}
    started = Workers(redis_url, tmp_path, quick)
    yield started
    for process in started.running:
        if process.poll() is None:
            started.kill(process)


# --- the command line


@pytest.fixture
def mtl(tmp_path: Path) -> Mtl:
    """Run the real ``mtl`` in a process of its own."""

    def run(*arguments: str | Path, timeout: float = 120, **environment: str) -> Ran:
        done = subprocess.run(
            [sys.executable, "-m", "jobs", *map(str, arguments)],
            env={**os.environ, **environment},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=timeout * machine_pace(),
        )
        return Ran(done.returncode, done.stdout, done.stderr)

    return run


# --- measured recovery times, printed at the end of a run

RECOVERED = "recovered"


@pytest.fixture
def recovered(record_property: Callable[[str, object], None]) -> Callable[[str, float], None]:
    """Note how long a fault's recovery took."""
    return lambda fault, seconds: record_property(RECOVERED, f"| {fault} | {seconds:.1f} s |")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the table of recoveries."""
    for report in terminalreporter.getreports("passed"):
        for name, line in report.user_properties:
            if name == RECOVERED:
                terminalreporter.write_line(str(line))


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> "Iterator[Chrome]":
    """Headless Chromium with a profile of its own; Debian's chromium and chromium-driver."""
    from selenium.webdriver import Chrome, ChromeOptions
    from selenium.webdriver.chrome.service import Service

    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if chromium is None or driver is None:
        pytest.skip("needs chromium and chromedriver (Debian: chromium, chromium-driver)")
    options = ChromeOptions()
    options.binary_location = chromium
    for argument in (
        *("headless=new", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run"),
        *("disable-background-networking", "disable-component-update", "disable-sync"),
        *("window-size=1100,900", f"user-data-dir={tmp_path_factory.mktemp('profile')}"),
    ):
        options.add_argument(f"--{argument}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    started = Chrome(options, Service(driver))
    yield started
    started.quit()
