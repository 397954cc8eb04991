"""What a worker tells of itself: Prometheus metrics and structured logs."""

import json
import os
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from support import Mtl, Workers, free_port, pace, wait_until

from jobs.ledger.ledger import Ledger
from jobs.ledger.messages import Publisher, broker_url
from jobs.ledger.presence import Presence, node_name
from jobs.settings import Settings

pytestmark = pytest.mark.slow


def scraped(port: int) -> dict[tuple[str, ...], float]:
    """Every sample by its name and label values."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10 * pace()) as answer:
        text = answer.read().decode()
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_a_worker_counts_its_rows_and_logs_with_ids(
    mtl: Mtl, workers: Workers, tmp_path: Path
) -> None:
    (tmp_path / "in.csv").write_text("text\n" + "one\ntwo\nthree\n\n'four'\nfive\none\n")
    port = free_port()
    workers.start(MTL_METRICS_PORT=str(port), MTL_LOG_FORMAT="json")
    done = mtl("label", "in.csv", "-o", "out", "--shard-rows", "2", MTL_REDIS_URL=workers.url)
    assert done.code == 0, done.err
    wait_until(
        lambda: scraped(port).get(("mtl_rows_total", "label", "done")) == 6, 20, "six rows counted"
    )
    found = scraped(port)
    assert (
        found["mtl_tokens_total",]
        == json.loads((tmp_path / "out" / "_manifest.json").read_text())["tokens"]
    )
    assert found["mtl_stage_seconds_total", "label"] > 0
    assert found["mtl_attempts_total", "last"] == 1
    assert found["mtl_queue_messages", "label"] == 0
    assert found["mtl_workers",] == 1
    lines = [json.loads(line) for line in workers.logs().splitlines() if line.startswith("{")]
    about = [line for line in lines if line.get("shard") == "00001"]
    assert {line["message"] for line in about} >= {f"{about[0]['job']}/00001: attempt 1"}
    assert all(re.match(r"\d{4}-\d\d-\d\dT", line["time"]) for line in lines)
    assert {line["level"] for line in about} == {"info"}


@contextmanager
def flower(redis_url: str, port: int) -> Iterator[None]:
    """Flower, as docs/operations.md starts it."""
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "celery", f"--broker={broker_url(redis_url)}"),
            *("flower", "--address=127.0.0.1", f"--port={port}"),
        ],
        env={**os.environ, "FLOWER_UNAUTHENTICATED_API": "true"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()


def test_flower_lists_workers_and_tasks(workers: Workers, redis_url: str) -> None:
    pytest.importorskip("flower")
    port = free_port()

    def asked(what: str) -> dict[str, Any]:
        try:
            with urllib.request.urlopen(
                f"http://127.0.0.1:{port}/api/{what}", timeout=10 * pace()
            ) as answer:
                found: dict[str, Any] = json.load(answer)
                return found
        except urllib.error.URLError:
            return {}  # it is still starting

    started = workers.start()
    with flower(redis_url, port):
        presence = Presence(Ledger(redis_url, Settings()).redis)
        wait_until(lambda: bool(presence.workers()), 40, "the worker is announced")
        (worker,) = presence.workers()
        assert worker.startswith(f"{os.uname().nodename}:{started.pid}:")
        name = node_name(worker)
        wait_until(lambda: name in asked("workers?refresh=1"), 40, "Flower lists the worker")
        queues = {queue["name"] for queue in asked("workers")[name]["active_queues"]}
        assert queues >= {"label", "label.high", "train"}
        publisher = Publisher(redis_url)

        def succeeded() -> list[str]:
            publisher.shards("label", "normal", "label-gone", ["00000"])
            return [task["name"] for task in asked("tasks").values() if task["state"] == "SUCCESS"]

        wait_until(lambda: "mtl.run_shard" in succeeded(), 20, "Flower lists a task")
        publisher.close()
    assert "Traceback" not in workers.logs()
