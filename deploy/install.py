"""Install the project into the environment this runs in, by uv; by pip where uv cannot.

    .venv/bin/python deploy/install.py ".[int8]"

Uses the standard library only: nothing else is installed yet. uv reads no configuration of pip's,
so what pip has been told (files and ``PIP_…`` variables: indexes, folders of wheels, certificates,
constraints) is passed on by ``UV_…`` variables; any that are set already stay.
"""

import ast
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
CONSTRAINTS = Path(__file__).resolve().parents[1] / "constraints.txt"
UV_NAMES = {
    "index-url": "UV_DEFAULT_INDEX",
    "extra-index-url": "UV_INDEX",
    "find-links": "UV_FIND_LINKS",
    "trusted-host": "UV_INSECURE_HOST",
    "constraint": "UV_CONSTRAINT",
    "no-index": "UV_NO_INDEX",
    "cert": "SSL_CERT_FILE",
    "proxy": "ALL_PROXY",
    "timeout": "UV_HTTP_TIMEOUT",
    "default-timeout": "UV_HTTP_TIMEOUT",
}
SECTIONS = ("global", "install", ":env:")
"""Where pip looks for an option; the later wins."""


def config_of_pip() -> str:
    """What pip has been told, as it lists it."""
    return subprocess.run([*PIP, "config", "list"], capture_output=True, text=True).stdout


def told_to_pip(listed: str) -> dict[str, str]:
    """Options from what ``pip config list`` prints, lines such as ``global.cert='/a/b'``."""
    found: dict[tuple[str, str], str] = {}
    for line in listed.splitlines():
        name, _, value = line.partition("=")
        section, _, option = name.partition(".")
        found[section, option] = str(ast.literal_eval(value))
    return {option: found[s, option] for s in SECTIONS for t, option in found if t == s}


def for_uv(told: Mapping[str, str], environment: Mapping[str, str]) -> dict[str, str]:
    """The environment in which uv finds what pip would."""
    # As pip does, take the best version of all indexes, not the first index that has the name.
    added = {"UV_INDEX_STRATEGY": "unsafe-best-match"}
    for option, value in told.items():
        if name := UV_NAMES.get(option):
            separator = "," if name == "UV_FIND_LINKS" else " "
            added[name] = separator.join(value.split())
    return {**added, **environment}


def main(project: str) -> None:
    """Install ``project``, editable."""
    what = ["--constraint", str(CONSTRAINTS), "--editable", project]
    environment = for_uv(told_to_pip(config_of_pip()), os.environ)
    by_uv = [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--python", sys.executable]
    try:
        get_uv = [*PIP, "install", "--quiet", "--constraint", str(CONSTRAINTS)]
        # Never built from source, which takes a Rust compiler and longer than pip would.
        subprocess.run([*get_uv, "--only-binary", "uv", "uv"], check=True)
        subprocess.run([*by_uv, *what], check=True, env=environment)
    except subprocess.CalledProcessError:
        print("setup: uv did not install it (see above); by pip now", file=sys.stderr)
        sys.exit(subprocess.run([*PIP, "install", "--quiet", *what]).returncode)


if __name__ == "__main__":
    main(sys.argv[1])
