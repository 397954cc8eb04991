"""The Celery application of a worker: settings, tasks, and what happens at start and end.

A task is acknowledged as it starts and its result is not kept: the ledger alone says what was
done (see ``docs/design.md``). The parent process never imports torch; each child loads the model
after the fork and keeps it.
"""

import errno
import logging
import os
import signal
import sys
import time
import uuid
from contextlib import suppress
from functools import cache
from importlib import import_module
from typing import Any

import psutil
from billiard import current_process
from celery import Celery, signals

from jobs.connection import reachable, refused
from jobs.finalise import finalise
from jobs.ledger import Ledger
from jobs.lifecycle import JobState
from jobs.messages import FINALISE, RUN_SHARD, Publisher, broker_url
from jobs.output import ERRORS
from jobs.presence import Busy, Presence
from jobs.roots import place_inside
from jobs.settings import settings
from jobs.snapshot import Claim
from jobs.specs import LabelSpec, TrainSpec
from mtl_core.errors import (
    JobError,
    LedgerUnreachableError,
    ModelError,
    MtlError,
    SettingsError,
)
from mtl_core.pulse import with_pulse
from worker import metrics
from worker.cards import choose_card
from worker.heartbeat import Heartbeat, StopWork, leaving
from worker.logs import about, json_formatter
from worker.reconcile import Reconciler

log = logging.getLogger(__name__)

# Without fix-ups: Celery's own, for Django, would put the current folder into the module path.
app = Celery("mtl", fixups=())
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
        "queue_order_strategy": "worker.queue_order:ByPriority",
    },
)


# How often a child tries again while Redis is gone or full, a second apart: longer than any
# restart. Whoever waits longer has lost its lease, and nothing else.
CHILD_PATIENCE = 300
# How long a starting worker waits for Redis.
START_PATIENCE_S = 10
# Errors of the output's disk or store that no other attempt mends, but somebody can.
DISK_ERRORS = (
    *(errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES),
    errno.EHOSTUNREACH,  # an object store that has not answered for long
)


def redis_url() -> str:
    """The Redis of this worker.

    Raises:
        SettingsError: MTL_REDIS_URL is not set.
    """
    url = settings().redis_url
    if url is None:
        raise SettingsError("a worker needs MTL_REDIS_URL")
    return url


@cache
def ledger() -> Ledger:
    """This child's ledger; waits while Redis is away."""
    return Ledger(redis_url(), settings(), CHILD_PATIENCE)


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
    with about(job=job, shard=shard, attempt=claim.attempt, worker=worker_name()):
        _run_claimed(job, shard, token, claim)


def _run_claimed(job: str, shard: str, token: str, claim: Claim) -> None:
    log.info("%s/%s: attempt %d", job, shard, claim.attempt)
    presence = Presence(ledger().redis)
    presence.begin(worker_name(), Busy(os.getpid(), job, shard, token))
    try:
        answer = _attempt(job, shard, token, claim.attempt, dict(claim.shard or {}))
    finally:
        presence.end(worker_name(), os.getpid())
    log.info("%s/%s: %s", job, shard, answer.lower())
    metrics.ATTEMPTS.labels(answer.lower()).inc()
    if answer == "LAST":
        finalise_job(job)


def _attempt(job: str, shard: str, token: str, attempt: int, definition: dict[str, Any]) -> str:
    """One try at a shard, from claim to its end in the ledger; returns the ledger's answer."""
    try:
        with Heartbeat(ledger(), job, shard, token) as heartbeat:
            result = _work(job, shard, attempt, definition, heartbeat)
        answer = ledger().complete(job, shard, token, result)
        if answer in ("STALE", "CLOSED"):
            _take_back(job, result)
        else:
            metrics.count_result(ledger().spec(job).kind, result)
        return answer
    except StopWork as stop:
        if stop.answer == "STALE":
            metrics.LEASES_LOST.inc()
        else:
            ledger().release(job, shard, token, f"the worker stopped: {stop.answer.lower()}")
        return stop.answer
    except (ModelError, SettingsError) as error:  # no other attempt on this spec can do better
        ledger().release(job, shard, token, str(error))
        ledger().transition(job, JobState.FAILED, str(error))
        return "FAILED"
    except OSError as error:
        if error.errno not in DISK_ERRORS:
            return _failed(job, shard, token, error)
        ledger().release(job, shard, token, str(error))
        _pause(job, error)
        return "PAUSED"
    except Exception as error:  # whatever it was, it is one failed attempt with its reason
        return _failed(job, shard, token, error)


def _take_back(job: str, result: dict[str, Any]) -> None:
    """Remove what a refused attempt wrote: its job may have ended, and nobody else would."""
    with suppress(JobError):  # forgotten meanwhile, and with it where its output is
        spec = ledger().spec(job)
        if isinstance(spec, LabelSpec):
            output = place_inside(spec.output, settings())
            errors = [f"{ERRORS}/{result['errors']}"] if result["errors"] else []
            output.delete(result["part"], *errors)


def _failed(job: str, shard: str, token: str, error: Exception) -> str:
    log.exception("%s/%s: the attempt failed", job, shard)
    metrics.ERRORS.labels(type(error).__name__).inc()
    return ledger().fail(job, shard, token, _one_line(error))


def _pause(job: str, error: OSError) -> None:
    reason = f"{error.strerror or error}: {_output_of(job)}; mend that, then `mtl retry {job}`"
    if ledger().transition(job, JobState.PAUSED, reason):
        log.error("%s paused: %s", job, reason)


def _output_of(job: str) -> str:
    return ledger().spec(job).output


def _work(
    job: str, shard: str, attempt: int, definition: dict[str, Any], heartbeat: Heartbeat
) -> dict[str, Any]:
    spec = ledger().spec(job)
    # Here and not above: these load torch, which only the children may do.
    own = "worker.label" if isinstance(spec, LabelSpec) else "worker.train"
    if own not in sys.modules:
        with_pulse(heartbeat.pulse, import_module, own)
    if isinstance(spec, LabelSpec):
        from worker.label import label_shard

        return label_shard(
            *(job, spec, shard, attempt, definition, worker_name()),
            heartbeat.progress,
            heartbeat.confirm,
            heartbeat.pulse,
        )
    assert isinstance(spec, TrainSpec)
    from worker.train import train_model

    return train_model(ledger(), job, spec, worker_name(), attempt, heartbeat)


def _one_line(error: Exception) -> str:
    text = (str(error).strip().splitlines() or [""])[0]
    return text if isinstance(error, MtlError) else f"{type(error).__name__}: {text}"


@app.task(name=FINALISE)
def finalise_job(job: str) -> None:
    """Write the manifest of a job whose shards are all settled, and end it."""
    try:
        if finalise(ledger(), job):
            log.info("%s: %s", job, ledger().state(job))
    except MtlError as error:
        log.error("%s: %s", job, error)
    except OSError as error:
        if error.errno not in DISK_ERRORS:
            raise
        _pause(job, error)


@signals.after_setup_logger.connect
def format_log(logger: logging.Logger, **_: Any) -> None:
    """JSON lines where they are wanted."""
    if settings().log_format == "json":
        for handler in logger.handlers:
            handler.setFormatter(json_formatter())


_reconcilers: list[Reconciler] = []


_controllers: list[Any] = []


@signals.celeryd_after_setup.connect
def remember_controller(instance: Any, **_: Any) -> None:
    """Keep Celery's controller: `worker_main` does not tell how it ended, this does."""
    _controllers.append(instance)


def gave_up() -> bool:
    """Whether Celery ended this worker by itself, on an error it calls unrecoverable."""
    return any(controller.exitcode for controller in _controllers)


@signals.worker_ready.connect
def start_reconciler(**_: Any) -> None:
    """Start the reconciler in the worker's parent process."""
    parent = os.environ.get("MTL_PARENT_PID")
    name = os.environ.get("MTL_WORKER_NAME") or f"{os.uname().nodename}:{os.getpid()}"
    # Without patience: it must notice that Redis was away.
    own = Ledger(redis_url(), settings(), patience=0)
    reconciler = Reconciler(own, Publisher(own.url), name, int(parent) if parent else None)
    reconciler.start()
    if (port := settings().metrics_port) is not None:
        metrics.serve(port, Ledger(redis_url(), settings(), patience=0))
    _reconcilers.append(reconciler)


@signals.worker_shutting_down.connect
def tell_children_to_leave(**_: Any) -> None:
    """On the first SIGTERM or Ctrl-C: children give their shard back after the current batch."""
    leaving.set()
    for child in psutil.Process().children():
        child.send_signal(signal.SIGUSR2)


@signals.worker_shutdown.connect
def stop_reconciler(**_: Any) -> None:
    """End the reconciler with the worker."""
    for reconciler in _reconcilers:
        reconciler.stop()


@signals.worker_process_init.connect
def prepare_child(**_: Any) -> None:
    """In a fresh child: own connections, and the signal to leave."""
    ledger.cache_clear()
    choose_card(current_process().index)
    signal.signal(signal.SIGUSR2, lambda *_: leaving.set())


def check_ledger() -> None:
    """Wait until Redis answers, since workers and Redis often start together.

    Raises:
        LedgerUnreachableError: it refuses the password, is not trusted, or did not answer in time.
    """
    deadline = time.monotonic() + START_PATIENCE_S
    said = False
    while True:
        try:
            with reachable(redis_url()):
                Ledger(redis_url(), settings(), patience=0).ping()
            return
        except LedgerUnreachableError as error:
            if refused(error.__cause__) or time.monotonic() > deadline:
                raise
            if not said:
                log.warning("Redis does not answer; waiting up to %d s", START_PATIENCE_S)
                said = True
            time.sleep(0.2)
