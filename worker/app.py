"""The Celery application of a worker: settings, tasks, and what happens at start and end.

A task is acknowledged as it starts and its result is not kept: the ledger alone says what was
done (see ``docs/design.md``). The parent process never imports torch; each child loads the model
after the fork and keeps it.
"""

import logging
import os
import signal
import uuid
from functools import cache
from typing import Any

import psutil
import redis
from celery import Celery, signals

from jobs.finalise import finalise
from jobs.ledger import Ledger
from jobs.lifecycle import JobState
from jobs.messages import FINALISE, QUEUES, RUN_SHARD, Publisher, broker_url
from jobs.settings import settings
from jobs.specs import LabelSpec, TrainSpec
from mtl_core.errors import JobError, LedgerUnreachableError, ModelError, MtlError
from worker.heartbeat import Heartbeat, StopWork, leaving
from worker.reconcile import Reconciler

log = logging.getLogger(__name__)

app = Celery("mtl")
app.conf.update(
    broker_url=broker_url(settings().redis_url or "redis://localhost:6379/0"),
    accept_content=["json"],
    task_serializer="json",
    task_ignore_result=True,
    task_acks_late=False,
    worker_prefetch_multiplier=1,
    worker_hijack_root_logger=True,
    worker_send_task_events=False,
    worker_cancel_long_running_tasks_on_connection_loss=False,
    broker_connection_retry_on_startup=True,
    broker_connection_max_retries=None,
    broker_transport_options={
        "socket_timeout": 30,
        "socket_connect_timeout": 5,
        "socket_keepalive": True,
    },
)


@cache
def ledger() -> Ledger:
    """This process's ledger."""
    url = settings().redis_url
    if url is None:
        raise JobError("a worker needs MTL_REDIS_URL")
    return Ledger(url, settings())


@cache
def publisher() -> Publisher:
    """This process's publisher of messages."""
    return Publisher(ledger().url)


def worker_name() -> str:
    """Host and process of this worker's parent."""
    return os.environ.get("MTL_WORKER_NAME") or f"{os.uname().nodename}:{os.getppid()}"


@app.task(name=RUN_SHARD)
def run_shard(job: str, shard: str) -> None:
    """Claim a shard and work on it; a message whose shard is not to be had is dropped."""
    token = uuid.uuid4().hex
    claim = ledger().claim(job, shard, token, worker_name())
    if claim.answer != "LEASED" or claim.shard is None:
        log.info("%s/%s: %s", job, shard, claim.answer.lower())
        return
    log.info("%s/%s: attempt %d", job, shard, claim.attempt)
    try:
        with Heartbeat(ledger(), job, shard, token) as heartbeat:
            result = _work(job, shard, claim.attempt, dict(claim.shard), heartbeat)
        answer = ledger().complete(job, shard, token, result)
    except StopWork as stop:
        answer = stop.answer
        if answer != "STALE":
            ledger().release(job, shard, token, f"the worker stopped: {answer.lower()}")
    except ModelError as error:  # no other attempt on this spec can do better
        ledger().release(job, shard, token, str(error))
        ledger().transition(job, JobState.FAILED, str(error))
        answer = "FAILED"
    except Exception as error:  # whatever it was, it is one failed attempt with its reason
        log.exception("%s/%s: attempt %d failed", job, shard, claim.attempt)
        answer = ledger().fail(job, shard, token, _one_line(error))
    log.info("%s/%s: %s", job, shard, answer.lower())
    if answer == "LAST":
        finalise_job(job)


def _work(
    job: str, shard: str, attempt: int, definition: dict[str, Any], heartbeat: Heartbeat
) -> dict[str, Any]:
    spec = ledger().spec(job)
    # Here and not above: these load torch, which only the children may do.
    if isinstance(spec, LabelSpec):
        from worker.label import label_shard

        return label_shard(job, spec, shard, attempt, definition, worker_name(), heartbeat.progress)
    assert isinstance(spec, TrainSpec)
    from worker.train import train_model

    return train_model(ledger(), job, spec, worker_name(), attempt, heartbeat.progress)


def _one_line(error: Exception) -> str:
    text = (str(error).strip().splitlines() or [""])[0]
    return text if isinstance(error, MtlError) else f"{type(error).__name__}: {text}"


@app.task(name=FINALISE)
def finalise_job(job: str) -> None:
    """Write the manifest of a job whose shards are all settled, and end it."""
    try:
        if finalise(ledger(), job, uuid.uuid4().hex):
            log.info("%s: %s", job, ledger().state(job))
    except MtlError as error:
        log.error("%s: %s", job, error)


_reconcilers: list[Reconciler] = []


@signals.worker_ready.connect
def start_reconciler(**_: Any) -> None:
    """Start the reconciler in the worker's parent process."""
    parent = os.environ.get("MTL_PARENT_PID")
    name = os.environ.get("MTL_WORKER_NAME") or f"{os.uname().nodename}:{os.getpid()}"
    reconciler = Reconciler(ledger(), publisher(), name, int(parent) if parent else None)
    reconciler.start()
    _reconcilers.append(reconciler)


@signals.worker_shutting_down.connect
def tell_children_to_leave(**_: Any) -> None:
    """On the first SIGTERM or Ctrl-C: children give their shard back after the current batch."""
    for child in psutil.Process().children():
        child.send_signal(signal.SIGUSR2)


@signals.worker_shutdown.connect
def stop_reconciler(**_: Any) -> None:
    """End the reconciler with the worker."""
    for reconciler in _reconcilers:
        reconciler.stop()


@signals.worker_process_init.connect
def prepare_child(**_: Any) -> None:
    """In a fresh child: own connections, the signal to leave, and torch's share of the cores."""
    ledger.cache_clear()
    publisher.cache_clear()
    signal.signal(signal.SIGUSR2, lambda *_: leaving.set())
    import torch

    children = max(1, int(os.environ.get("MTL_WORKER_CHILDREN", "1")))
    torch.set_num_threads(max(1, (len(os.sched_getaffinity(0))) // children))


def queues() -> str:
    """All queues a worker serves unless told otherwise."""
    return ",".join(sorted(set(QUEUES.values())))


def check_ledger() -> None:
    """Raise LedgerUnreachableError unless Redis answers."""
    try:
        ledger().ping()
    except redis.RedisError as error:
        raise LedgerUnreachableError(str(error)) from error
