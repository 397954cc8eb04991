"""The ``mtl`` command: a group whose commands are imported only when they are used."""

import importlib
import sys

import click

from jobs import interrupt
from jobs.cli.commands import COMMANDS, SECTIONS
from jobs.cli.defaults import check_tables, name_variables, option_defaults
from jobs.cli.shared.plain import plain
from mtl_core import __version__
from mtl_core.errors import LedgerUnreachableError, MtlError
from mtl_core.processes import keep_current_folder_out
from mtl_core.suggest import did_you_mean

EPILOG = """\b
Exit codes: 0 done; 1 a defect of this program; 2 wrong input, option, model or output folder;
3 the job failed, was cancelled or ended partial; 4 Redis does not answer; 5 `mtl drift --fail`
found a change; 130 stopped by Ctrl-C.
"""


class LazyGroup(click.Group):
    """Lists all commands, imports the one that is run, and turns errors into one line."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        module = importlib.import_module(f"jobs.cli.{COMMANDS[name].module}")
        command: click.Command = getattr(module, name)
        name_variables(name, command)
        check_tables()
        # The file's defaults stand below the environment (MTL_LABEL_EMBEDDING) and the flags.
        ctx.default_map = {name: option_defaults(name, command)}
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for section in SECTIONS:
            lines = [(name, c.line) for name, c in COMMANDS.items() if c.section == section]
            with formatter.section(section):
                formatter.write_dl(lines)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and not args[0].startswith("-") and args[0] not in COMMANDS:
            hint = did_you_mean(args[0], COMMANDS, behind=" ")
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
    """Print an expected error in one line and exit with its code; return if it is unexpected."""
    if isinstance(error, MtlError):
        click.echo(f"mtl: {plain(error)} ({error.code})", err=True)
        sys.exit(error.exit_code)
    if isinstance(error, BrokenPipeError):
        sys.exit(0)  # the reader (head, less) has seen enough
    # Only a command that has loaded redis can raise its errors; help must not load it.
    redis = sys.modules.get("redis")
    if redis is not None and isinstance(error, redis.RedisError):
        click.echo(f"mtl: {_redis_line(error)} ({LedgerUnreachableError.code})", err=True)
        sys.exit(LedgerUnreachableError.exit_code)


def _redis_line(error: Exception) -> str:
    from jobs.ledger.connection import reachable
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
