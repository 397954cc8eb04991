"""Where the program ``mtl`` begins: Ctrl-C is taken over before the commands are imported."""

import sys

from jobs import interrupt


def main() -> None:
    """Run the command line."""
    interrupt.install()
    try:
        from jobs.cli.group import main as command

        command(prog_name="mtl")
    except BaseException:
        if interrupt.came() and not _is_told(sys.exception()):
            interrupt.leave()
        raise


def _is_told(error: BaseException | None) -> bool:
    """Whether the program ends with the exit code of Ctrl-C already."""
    return isinstance(error, SystemExit) and error.code == interrupt.EXIT_CODE
