"""The scenario ``heads`` of ``mtl train``."""

from dataclasses import replace

import click
from click.core import ParameterSource

from jobs.cli.shared.common import output_folder
from jobs.settings import settings
from jobs.specs import TrainSpec
from jobs.train.request import TrainRequest
from mtl_core.training.scenario_names import HEADS

OF_OTHER_SCENARIOS = frozenset(
    {"data", "preset", "layers", "epochs", "max_rows_per_task", "task_file", "keep_overlap"}
    | {"teachers", "unlabelled", "keep_layers", "settable", "backbone"}
)
"""Names of options that the scenario has no use for."""


OF_HEADS = {"--from": "start", "--output": "output", "--task": "only_tasks"}
"""Options of this scenario alone, with their fields of the request."""


def refuse_options_of_heads(request: TrainRequest) -> None:
    """Raise UsageError where a request of another scenario has options of this one."""
    for option, field in OF_HEADS.items():
        if getattr(request, field):
            raise click.UsageError(f"{option} is for --scenario {HEADS}")


def spec_of_heads(request: TrainRequest, name: str) -> TrainSpec:
    """The spec of its job.

    Raises:
        click.UsageError: an option was typed that the scenario would pass over in silence; one that
            the environment or the configuration gives is for other runs.
        JobError: no such output.
        SettingsError, InputError, ModelError: as :func:`jobs.train.heads.heads_spec`.
    """
    from jobs.train.heads import heads_spec  # loads the readers of outputs

    context = click.get_current_context()
    for option in context.command.params:
        typed = context.get_parameter_source(option.name or "") is ParameterSource.COMMANDLINE
        if typed and option.name in OF_OTHER_SCENARIOS:
            raise click.UsageError(f"--scenario {HEADS} has no use for {option.opts[0]}")
    if request.output:
        request = replace(request, output=str(output_folder(request.output)))
    return heads_spec(request, name, settings())
