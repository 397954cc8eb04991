"""Starting programs of this package in processes of their own."""

import os
import sys


def program(module: str, *arguments: str) -> list[str]:
    """The command that runs a module of this package with the Python of this process.

    ``-P``: a plain ``python -m`` looks for modules in the current folder first, so that a
    ``worker.py`` or ``json.py`` lying beside a user's data would run instead of ours.
    """
    return [sys.executable, "-P", "-m", module, *arguments]


def keep_current_folder_out() -> None:
    """Keep the current folder out of the module path of every Python that this process starts.

    :func:`program` does so for the programs that this package starts. The environment variable
    reaches those that libraries start, such as the resource tracker of ``multiprocessing``.
    """
    os.environ["PYTHONSAFEPATH"] = "1"
