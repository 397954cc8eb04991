"""Names of the freezing scenarios and when to choose each; needs no torch."""

from collections.abc import Sequence

from mtl_core.tasks import DEFAULT_TASKS, Task


def scenario_help(tasks: Sequence[Task] = DEFAULT_TASKS) -> dict[str, str]:
    """All scenarios for these tasks: name to what it trains and when to choose it."""
    return {
        "frozen": "train nothing; scores what the pre-trained parts already know",
        "freeze-backbone": "train projection and heads; quick, the backbone stays shared",
        **{
            f"freeze-{task.name}-head": f"train all but the {task.name} head, whose labels keep "
            "their meaning"
            for task in tasks
        },
        "last-layers": "train the last layers (--layers), projection and heads; transfer",
        "full": "train everything; the best labels, the slowest",
    }


HEADS = "heads"
"""The scenario that trains heads alone, on checked rows of an output."""
SCENARIOS = scenario_help()
"""The freezing scenarios for the shipped tasks."""
COMMANDS = {
    **SCENARIOS,
    HEADS: "train the heads of --from on rows checked by hand (--add); seconds",
}
"""What ``mtl train --scenario`` takes for the shipped tasks."""
