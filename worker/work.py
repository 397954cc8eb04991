"""What a child does with a message: it claims the shard, and labels or trains."""

from collections.abc import Callable, Collection
from functools import partial
from importlib import import_module

from jobs.ledger.outcome import Outcome
from jobs.specs import LabelSpec
from mtl_core.pulse import with_pulse
from worker.attempt import Held, take_shard
from worker.process.own import ledger


def work_from(
    job: str, shard: str, queues: Collection[str], settled: Callable[[str], None]
) -> Outcome:
    """Claim a shard and work on it; if it is to be labelled, on those that wait behind it, too.

    Args:
        queues: where to look for them, in this order.
        settled: called with each job whose last shard was completed.
    Returns:
        what came of the first shard.
    """
    held = take_shard(job, shard)
    if isinstance(held, Outcome):
        return held
    labels = isinstance(held.attempt.spec, LabelSpec)
    # Imported here and not above: these modules load torch, which only children may do.
    load = partial(import_module, "worker.line" if labels else "worker.train")
    if held.do(lambda: with_pulse(held.heartbeat.pulse, load)) is not None:
        (_label if labels else _train)(held, queues, settled)
    assert held.outcome is not None
    return held.outcome


def _label(held: Held, queues: Collection[str], settled: Callable[[str], None]) -> None:
    from worker.line import Line

    Line(queues, settled).run(held)


def _train(held: Held, _: Collection[str], settled: Callable[[str], None]) -> None:
    from worker.train import train_model

    result = held.do(lambda: train_model(ledger(), held.attempt, held.heartbeat))
    if result is not None and held.complete(result) is Outcome.LAST:
        settled(held.attempt.job)
