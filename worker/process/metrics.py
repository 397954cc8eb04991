"""Prometheus metrics of a worker and its children, and of the queues they serve.

Children are processes of their own: they count into mapped files in ``PROMETHEUS_MULTIPROC_DIR``,
which prometheus-client sums up in the parent that serves them. That variable must be set before
this module is imported; ``worker.__main__`` does so.
"""

from collections.abc import Iterator, Mapping
from typing import Any, cast

import redis
from prometheus_client import CollectorRegistry, Counter, start_http_server
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from jobs.ledger.ledger import Ledger
from jobs.ledger.messages import queue_names
from jobs.ledger.presence import Presence

ROWS = Counter("mtl_rows", "Rows done, by what became of them.", ["kind", "outcome"])
TOKENS = Counter("mtl_tokens", "Tokens encoded, special tokens included, padding not.")
SPARED = Counter("mtl_spared_rows", "Rows not encoded again.", ["reason"])
SECONDS = Counter("mtl_stage_seconds", "Seconds spent on shards, by stage.", ["stage"])
ATTEMPTS = Counter("mtl_attempts", "Attempts at shards, by how they ended.", ["outcome"])
LEASES_LOST = Counter("mtl_leases_lost", "Attempts whose process died or whose lease ran out.")
ERRORS = Counter("mtl_errors", "Attempts that ended with an exception, by its type.", ["type"])


def count_result(kind: str, result: Mapping[str, Any]) -> None:
    """Count what a completed shard's result says."""
    ROWS.labels(kind, "done").inc(result["rows"])
    ROWS.labels(kind, "failed").inc(result["failed"])
    TOKENS.inc(result.get("tokens", 0))
    for reason, name in (("duplicate", "duplicates"), ("cached", "cached")):
        SPARED.labels(reason).inc(result.get(name, 0))
    for stage, seconds in result.get("seconds", {}).items():
        SECONDS.labels(stage).inc(seconds)


class QueueCollector(Collector):
    """Collects what Redis says at the moment of a scrape; nothing while Redis does not answer."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def collect(self) -> Iterator[Metric]:
        """Messages waiting, jobs by state, shards not done, workers announced."""
        try:
            yield from self._collect()
        except redis.RedisError:
            return

    def _collect(self) -> Iterator[Metric]:
        depth = GaugeMetricFamily("mtl_queue_messages", "Messages waiting.", labels=["queue"])
        for queue in queue_names():
            depth.add_metric([queue], cast(int, self._ledger.redis.llen(queue)))
        shards = GaugeMetricFamily("mtl_shards_open", "Shards not done yet.", labels=["kind"])
        jobs = GaugeMetricFamily("mtl_jobs_open", "Jobs that have not ended.", labels=["state"])
        open_shards: dict[str, int] = {}
        open_jobs: dict[str, int] = {}
        for job in self._ledger.active_jobs():
            now = self._ledger.snapshot(job)
            left = now.shards.total - now.shards.done - now.shards.failed
            open_shards[now.kind] = open_shards.get(now.kind, 0) + left
            open_jobs[str(now.state)] = open_jobs.get(str(now.state), 0) + 1
        for name, count in open_shards.items():
            shards.add_metric([name], count)
        for name, count in open_jobs.items():
            jobs.add_metric([name], count)
        workers = GaugeMetricFamily("mtl_workers", "Workers announced.")
        workers.add_metric([], len(Presence(self._ledger.redis).workers()))
        yield from (depth, shards, jobs, workers)


def serve(port: int, ledger: Ledger) -> None:
    """Serve ``/metrics`` on a port, from a thread of the parent."""
    registry = CollectorRegistry()
    MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    registry.register(QueueCollector(ledger))
    start_http_server(port, registry=registry)
