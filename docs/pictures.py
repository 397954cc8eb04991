"""Makes the README's pictures from a real run: ``python docs/pictures.py``.

The examples are labelled by the shipped model; the terminal is drawn by rich, the pages by
Chromium (Debian's chromium and chromium-driver). ``pictures/inputs.json`` keeps what they were made
of; a test fails when that has changed since.
"""

import hashlib
import io
import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

ROOT = Path(__file__).resolve().parents[1]
PICTURES = ROOT / "docs" / "pictures"
RECORD = PICTURES / "inputs.json"
INPUTS = (
    "docs/pictures.py",
    "examples/sentences.csv",
    "jobs/report/templates/*",
    "jobs/review/templates/sheet.html",
    "jobs/cli/look/show.py",
    "mtl_core/models/default/config.json",
)
"""What the pictures show is decided by these, most of all."""
TERMINAL = (
    "mtl label sentences.csv -o out/ -q",
    "mtl show out/ -n 6",
    "mtl status",
)
PAGES = {
    "report": ("mtl report out/ -o report.html", (1200, 1500)),
    "review": ("mtl review out/ -o review.html -n 40", (900, 780)),
}
"""By picture: the command that makes the page, and width and height in pixels."""
COLUMNS = 118
FONT_FACE = re.compile(r"@font-face \{.*?\}", re.DOTALL)
"""Fonts that rich would have loaded from elsewhere; the viewer's own do."""
MOST_BYTES = 200_000


def digests() -> dict[str, str]:
    """SHA-256 of each input."""
    found = sorted(path for pattern in INPUTS for path in ROOT.glob(pattern))
    return {
        str(path.relative_to(ROOT)): hashlib.sha256(path.read_bytes()).hexdigest() for path in found
    }


def main() -> None:
    """Make all pictures, and the record of their inputs."""
    PICTURES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="demo-") as scratch:
        folder = Path(scratch)
        (folder / "sentences.csv").write_bytes((ROOT / "examples/sentences.csv").read_bytes())
        draw_terminal(folder, PICTURES / "terminal.svg")
        with browser() as chrome:
            for name, (command, size) in PAGES.items():
                run(command, folder)
                chrome.set_window_size(*size)
                chrome.get((folder / f"{name}.html").as_uri())
                target = PICTURES / f"{name}.png"
                chrome.save_screenshot(str(target))
                shrink(target)
    RECORD.write_text(json.dumps(digests(), indent=1) + "\n", encoding="utf-8")


def run(command: str, folder: Path) -> str:
    """What a command prints on a terminal of :data:`COLUMNS`, colours included."""
    environment = {
        **os.environ,
        "FORCE_COLOR": "1",
        "COLUMNS": str(COLUMNS),
        "MTL_STATE_DIR": str(folder / "state"),
    }
    words = [sys.executable, "-m", "jobs", *shlex.split(command)[1:]]
    done = subprocess.run(
        words, cwd=folder, env=environment, check=True, capture_output=True, text=True
    )
    return done.stdout


def draw_terminal(folder: Path, target: Path) -> None:
    """Run the commands, and draw what they print as SVG."""
    console = Console(record=True, width=COLUMNS, file=io.StringIO())
    for command in TERMINAL:
        console.print(Text.assemble(("$ ", "bold green"), command))
        console.print(Text.from_ansi(run(command, folder).replace(str(folder), "~")))
    svg = console.export_svg(title="mtl")
    target.write_text(FONT_FACE.sub("", svg), encoding="utf-8")


@contextmanager
def browser() -> Iterator["Chrome"]:
    """Chromium without a window, in light colours."""
    from selenium.webdriver import Chrome, ChromeOptions

    options = ChromeOptions()
    for each in ("--headless=new", "--no-sandbox", "--hide-scrollbars"):
        options.add_argument(each)
    chrome = Chrome(options=options)
    try:
        yield chrome
    finally:
        chrome.quit()


def shrink(picture: Path) -> None:
    """Write a PNG with a palette of 256 colours; refuse one that is still too large.

    Raises:
        ValueError: it has more than :data:`MOST_BYTES`.
    """
    from PIL import Image

    with Image.open(picture) as image:
        image.convert("RGB").quantize(256).save(picture, optimize=True)
    if picture.stat().st_size > MOST_BYTES:
        raise ValueError(f"{picture} has {picture.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
