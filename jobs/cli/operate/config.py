"""``mtl config``."""

import click

from jobs.cli.commands import COMMANDS
from jobs.cli.shared.common import json_option, print_json
from jobs.cli.shared.plain import plain
from jobs.config_file import FILE_NAME, config_file, read_config
from jobs.ledger.connection import without_password
from jobs.settings import Settings, settings, source_of, variable_of

ADDRESSES = ("redis_url", "models_dir")


@click.command()
@json_option
def config(as_json: bool) -> None:
    """Show every setting, its value and where that comes from.

    Flags win over the environment (MTL_…), that over mtl.toml, that over the defaults. mtl.toml is
    the one in this folder, else the user's own; MTL_CONFIG names another. Its keys are settings,
    its tables are defaults of commands' options, whose variables are MTL_COMMAND_OPTION
    (of an option that may be given several times, a value a line).

    \b
    An mtl.toml:
      redis_url = "redis://host:6379/0"
      [label]
      embedding = "float16"

    \b
    Examples:
      mtl config
      mtl config --json
    """
    values = settings()
    rows = []
    for name in Settings.model_fields:
        value = getattr(values, name)
        shown = without_password(value) if name in ADDRESSES and value else value
        rows.append((name, "unset" if shown is None else str(shown), source_of(name)))
    for command, table in read_config().items():
        if command in COMMANDS and isinstance(table, dict):
            rows += [(f"{command}.{key}", str(v), str(config_file())) for key, v in table.items()]
    if as_json:
        print_json([dict(zip(("setting", "value", "from"), row, strict=True)) for row in rows])
        return
    wide = max(len(name) for name, _, _ in rows)
    widest = max(len(value) for _, value, _ in rows)
    for name, value, where in rows:
        click.echo(plain(f"{name:<{wide}}  {value:<{widest}}  {where}"))
    if config_file() is None:
        click.echo(
            f"no {FILE_NAME}; a setting's variable is e.g. {variable_of('engine')}", err=True
        )
