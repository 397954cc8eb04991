"""The order in which a worker looks at its queues."""

from kombu.utils.scheduling import priority_cycle

from jobs.ledger.messages import queue_names


class ByPriority(priority_cycle):  # type: ignore[misc]  # kombu is not typed
    """Orders the queues so that urgent ones always come first.

    Kombu's own strategy ``priority`` keeps the order it is given, but kombu 5.6 gives it a set,
    whose order differs between processes. Kombu is given this class by name, as
    ``queue_order_strategy``.
    """

    def consume(self, n: int) -> list[str]:
        """Names of the queues to ask, in order."""
        order = {name: place for place, name in enumerate(queue_names())}
        return sorted(self.items[:n], key=lambda name: (order.get(name, len(order)), name))
