"""The Celery application of a worker: settings, Celery tasks, and what is done at start and end.

A Celery task is acknowledged when it starts, and its result is not kept: the ledger alone says
what was done (see ``docs/design.md``). The parent process never imports torch; each child loads the
model after the fork and keeps it.
"""

import logging
import os
import signal
import sys
import time
from contextlib import suppress
from typing import Any

import psutil
from billiard import current_process
from celery import Celery, signals

from jobs.ledger.connection import reachable, refused
from jobs.ledger.ledger import Ledger
from jobs.ledger.messages import (
    FINALISE,
    RUN_SHARD,
    Publisher,
    broker_options,
    broker_url,
    queue_names,
)
from jobs.settings import settings
from mtl_core.errors import LedgerUnreachableError
from worker.finaliser import finalise_or_pause
from worker.lease.heartbeat import leaving, unusable
from worker.lease.reconcile import Member, Reconciler
from worker.process import metrics
from worker.process.cards import choose_card
from worker.process.logs import json_formatter
from worker.process.own import ledger, redis_url, worker_name
from worker.process.threads import children_of_worker, threads_of_child
from worker.teller import Teller
from worker.work import work_from

log = logging.getLogger(__name__)

REDIS = settings().redis_url or "redis://localhost:6379/0"

# Without fix-ups: Celery's fix-up for Django would put the current folder into the module path.
app = Celery("mtl", fixups=())
app.conf.update(
    broker_url=broker_url(REDIS),
    accept_content=["json"],
    task_serializer="json",
    task_ignore_result=True,
    task_acks_late=False,
    # A child takes the next shards itself (worker/line.py): what the parent took meanwhile would
    # wait in its hands.
    worker_disable_prefetch=True,
    worker_prefetch_multiplier=1,
    worker_hijack_root_logger=True,
    worker_send_task_events=False,
    worker_cancel_long_running_tasks_on_connection_loss=False,
    broker_connection_retry_on_startup=True,
    broker_connection_max_retries=None,
    broker_transport_options=broker_options(
        REDIS,
        socket_timeout=30,
        socket_connect_timeout=5,
        socket_keepalive=True,
        queue_order_strategy="worker.process.queue_order:ByPriority",
    ),
)


# How long a child's thread may keep the others from Python.
SWITCH_S = 0.0005
# How long a starting worker waits for Redis.
START_PATIENCE_S = 10


@app.task(name=RUN_SHARD)
def run_shard(job: str, shard: str) -> None:
    """Claim a shard and work on it; if it cannot be claimed, the message is dropped."""
    served = app.amqp.queues.consume_from
    work_from(job, shard, [name for name in queue_names() if name in served], finalise_job)
    if unusable.is_set():
        log.critical("the GPU fails at everything from now on: this process ends, another begins")
        os._exit(1)


@app.task(name=FINALISE)
def finalise_job(job: str) -> None:
    """Write the manifest of a job whose shards are all settled, and end it."""
    finalise_or_pause(ledger(), job)


@signals.after_setup_logger.connect
def format_log(logger: logging.Logger, **_: Any) -> None:
    """Log JSON lines if ``MTL_LOG_FORMAT`` is ``json``."""
    if settings().log_format == "json":
        for handler in logger.handlers:
            handler.setFormatter(json_formatter())


_reconcilers: list[Reconciler] = []


_tellers: list[Teller] = []


_controllers: list[Any] = []


@signals.celeryd_after_setup.connect
def remember_controller(instance: Any, **_: Any) -> None:
    """Keep Celery's controller: it knows how the worker ended; `worker_main` does not tell."""
    _controllers.append(instance)


def gave_up() -> bool:
    """Whether Celery ended this worker by itself, on an error it calls unrecoverable."""
    return any(controller.exitcode for controller in _controllers)


def failed_because() -> str:
    """Why this worker ended itself because it does not work; empty if it did not end itself."""
    return "; ".join(each.failure for each in _reconcilers if each.failure)


@signals.worker_ready.connect
def start_reconciler(**_: Any) -> None:
    """Start reconciler and teller in the worker's parent process."""
    parent = os.environ.get("MTL_PARENT_PID")
    # Without patience: the reconciler must notice when Redis is away.
    own = Ledger(redis_url(), settings(), patience=0)
    member = Member(worker_name(), tuple(app.amqp.queues.consume_from), children_of_worker())
    reconciler = Reconciler(own, Publisher(own.url), member, int(parent) if parent else None)
    _reconcilers.append(reconciler)
    reconciler.start()
    teller = Teller(Ledger(redis_url(), settings(), patience=0))
    _tellers.append(teller)
    teller.start()
    if (port := settings().metrics_port) is not None:  # last: Celery only logs its errors
        metrics.serve(port, Ledger(redis_url(), settings(), patience=0))


@signals.worker_shutting_down.connect
def tell_children_to_leave(**_: Any) -> None:
    """Have children give back their shard after the batch, on the first SIGTERM or Ctrl-C."""
    leaving.set()
    for child in psutil.Process().children():
        with suppress(psutil.NoSuchProcess):
            child.send_signal(signal.SIGUSR2)


@signals.worker_shutdown.connect
def stop_reconciler(**_: Any) -> None:
    """End reconciler and teller with the worker."""
    for reconciler in _reconcilers:
        reconciler.stop()
    for teller in _tellers:
        teller.stop()


@signals.worker_process_init.connect
def prepare_child(**_: Any) -> None:
    """Prepare a new child: connections of its own, its card, and the signal to leave."""
    ledger.cache_clear()
    choose_card(current_process().index)
    os.environ.setdefault("RAYON_NUM_THREADS", str(threads_of_child(settings())))  # the tokeniser's
    # The thread that feeds the device must not wait 5 ms for one that makes lists of token ids.
    sys.setswitchinterval(SWITCH_S)
    signal.signal(signal.SIGUSR2, lambda *_: leaving.set())


def check_ledger() -> None:
    """Wait until Redis answers, since workers and Redis often start together.

    Raises:
        LedgerUnreachableError: Redis refuses the password, is not trusted, or did not answer in
            time.
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
