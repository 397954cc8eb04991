"""The ``mtl`` command: a group whose commands are imported only when they are used."""

import importlib
import sys
from copy import copy
from difflib import get_close_matches

import click

from jobs import interrupt
from jobs.cli.plain import plain
from jobs.config_file import config_file, file_options, read_config
from mtl_core import __version__
from mtl_core.errors import LedgerUnreachableError, MtlError, SettingsError
from mtl_core.processes import keep_current_folder_out

# Command -> module below this package that defines it, and its line in `mtl --help`. Nothing is
# imported for the help, so that it comes at once.
COMMANDS = {
    "label": ("label", "Label files of sentences: topic, sentiment, embedding."),
    "train": ("train", "Train a model in one of the freezing scenarios."),
    "status": ("status", "Show one job, or all that have not ended."),
    "jobs": ("status", "List all jobs."),
    "cancel": ("control", "Stop a job; what is done stays."),
    "retry": ("control", "Let a failed, paused, cancelled or partial job go on."),
    "verify": ("control", "Check that an output holds every row once."),
    "show": ("show", "Show the first rows of a finished output."),
    "collect": ("collect", "Write a finished job's rows into one file: Parquet, csv, jsonl."),
    "report": ("report", "Write one HTML page about a finished output."),
    "models": ("models", "List the models that can be used by name."),
    "evaluate": ("models", "Score a model on the official splits."),
    "compare": ("compare", "Compare trained models, as a table and an HTML page."),
    "embed": ("models", "Print the embedding and labels of a few texts."),
    "export": ("export", "Write a model for sentence-transformers, ONNX or OpenVINO."),
    "worker": ("worker", "Run a worker."),
    "config": ("config", "Show every setting, its value and where that comes from."),
    "doctor": ("doctor", "Say what this machine has, and what to do where it lacks."),
}


def _check_tables() -> None:
    for table, content in read_config().items():
        if isinstance(content, dict) and table not in COMMANDS:
            near = get_close_matches(table, COMMANDS, n=1)
            hint = f"; did you mean '{near[0]}'?" if near else "; see `mtl --help`"
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
            near = get_close_matches(key, options, n=1)
            hint = f"; did you mean '{near[0]}'?" if near else ""
            raise SettingsError(f"{config_file()}: `mtl {name}` has no option '{key}'{hint}")
        found[str(option.name)] = _option_value(f"{name}.{key}", option, command, value)
    return found


def _option_value(key: str, option: click.Option, command: click.Command, value: object) -> object:
    """A value of the configuration file as the option takes it: several where it takes several."""
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


EPILOG = """\b
Exit codes: 0 done; 1 a defect of this program; 2 wrong input, option, model or output folder;
3 the job failed, was cancelled or ended partial; 4 Redis does not answer; 130 stopped by Ctrl-C.
"""


class LazyGroup(click.Group):
    """Lists all commands, imports the one that is run, and turns errors into one line."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        module = importlib.import_module(f"jobs.cli.{COMMANDS[name][0]}")
        command: click.Command = getattr(module, name)
        name_variables(name, command)
        _check_tables()
        # The file's defaults stand below the environment (MTL_LABEL_EMBEDDING) and the flags.
        ctx.default_map = {name: option_defaults(name, command)}
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and not args[0].startswith("-") and args[0] not in COMMANDS:
            near = get_close_matches(args[0], COMMANDS, n=1)
            hint = f"did you mean '{near[0]}'? " if near else ""
            raise click.UsageError(f"no command '{args[0]}'; {hint}see `mtl --help`", ctx)
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            interrupt.leave()
        except Exception as error:
            if interrupt.came():
                interrupt.leave()
            _end(error)
            raise


def _end(error: Exception) -> None:
    """Say an expected error in one line and end with its exit code; return where it is none."""
    if isinstance(error, MtlError):
        click.echo(f"mtl: {plain(error)} ({error.code})", err=True)
        sys.exit(error.exit_code)
    if isinstance(error, BrokenPipeError):
        sys.exit(0)  # the reader (head, less) has seen enough
    # redis is asked for only if a command has loaded it; help must not.
    redis = sys.modules.get("redis")
    if redis is not None and isinstance(error, redis.RedisError):
        click.echo(f"mtl: {_redis_line(error)} ({LedgerUnreachableError.code})", err=True)
        sys.exit(LedgerUnreachableError.exit_code)


def _redis_line(error: Exception) -> str:
    from jobs.connection import reachable
    from jobs.settings import settings

    try:
        with reachable(settings().redis_url or "the embedded Redis"):
            raise error
    except LedgerUnreachableError as line:
        return str(line)
    except Exception:  # none of the errors that have a line of their own
        return f"Redis refused a command ({error})"


@click.group(
    cls=LazyGroup,
    epilog=EPILOG,
    context_settings={
        "help_option_names": ["-h", "--help"],
        "max_content_width": 100,
        "auto_envvar_prefix": "MTL",
    },
)
@click.version_option(__version__, prog_name="mtl")
def main() -> None:
    """Label files of sentences and train the model that does it, on a queue of workers.

    \b
    Example:
      mtl label reviews.csv -o out/

    With MTL_REDIS_URL unset, commands run on an embedded Redis and worker of their own.
    """
    keep_current_folder_out()
