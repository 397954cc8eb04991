"""Options of commands from the configuration file and from variables of the environment."""

from copy import copy

import click

from jobs.cli.commands import COMMANDS
from jobs.config_file import config_file, file_options, read_config
from mtl_core.errors import SettingsError
from mtl_core.suggest import did_you_mean


def check_tables() -> None:
    """Raise SettingsError if the configuration file has a table named after no command."""
    for table, content in read_config().items():
        if isinstance(content, dict) and table not in COMMANDS:
            hint = did_you_mean(table, COMMANDS, before="; ", otherwise="; see `mtl --help`")
            raise SettingsError(f"{config_file()}: no command '{table}'{hint}")


def option_defaults(name: str, command: click.Command) -> dict[str, object]:
    """The configuration file's values for a command's options, by parameter.

    Raises:
        SettingsError: the command has no such option, or it takes no such value.
    """
    options = {
        opt.lstrip("-"): parameter
        for parameter in command.params
        for opt in (*parameter.opts, *parameter.secondary_opts)
        if isinstance(parameter, click.Option)
    }
    found: dict[str, object] = {}
    for key, value in file_options(name).items():
        option = options.get(key.replace("_", "-"))
        if option is None:
            hint = did_you_mean(key, options, before="; ")
            raise SettingsError(f"{config_file()}: `mtl {name}` has no option '{key}'{hint}")
        found[str(option.name)] = _option_value(f"{name}.{key}", option, command, value)
    return found


def _option_value(key: str, option: click.Option, command: click.Command, value: object) -> object:
    """A value of the configuration file as the option takes it; a list if it takes several.

    Raises:
        SettingsError: the option takes no such value.
    """
    several = value if isinstance(value, list) else [value]
    try:
        if not option.multiple and isinstance(value, list):
            raise click.BadParameter("takes one value, no list")
        if any(isinstance(one, (list, dict)) for one in several):
            raise click.BadParameter("takes no value within another")
        if not option.is_flag and any(isinstance(one, bool) for one in several):
            raise click.BadParameter("takes a text or a number, not true or false")
        # As text, like a flag's value: click would take 1.5 for the integer 1.
        given = [one if isinstance(one, bool) else str(one) for one in several]
        option.type_cast_value(click.Context(command), given if option.multiple else given[0])
    except click.BadParameter as error:
        raise SettingsError(f"{config_file()}: {key} = {value!r}: {error.message}") from error
    return given if option.multiple else given[0]


def name_variables(name: str, command: click.Command) -> None:
    """Give each option the variable that its users would guess: ``MTL_LABEL_TEXT_COLUMN``."""
    for parameter in command.params:
        if isinstance(parameter, click.Option) and parameter.envvar is None:
            longest = max(parameter.opts, key=len).lstrip("-")
            parameter.envvar = f"MTL_{name}_{longest}".upper().replace("-", "_")
            if parameter.multiple:
                # A variable holds one value a line: names of columns may hold spaces.
                parameter.type = copy(parameter.type)
                parameter.type.envvar_list_splitter = "\n"  # type: ignore[misc]  # of this copy
