"""Ctrl-C at any moment: the command stops, in one line at most, with exit code 130."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

pytestmark = pytest.mark.slow

# As the program `mtl` begins, with a word as soon as Ctrl-C is taken over.
BEGIN = """
from jobs import interrupt
interrupt.install()
print("begun", flush=True)
from jobs.entry import main
main()
"""


def start(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    """``mtl`` in a process of its own, which has begun."""
    process = subprocess.Popen(
        [sys.executable, "-c", BEGIN, *arguments],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # A shell starts background commands with SIGINT ignored, and children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    return process


LONG = ("label", "in.txt", "-o", "out", "--embedding", "none")
COMMANDS = (
    LONG,
    ("embed", "A dull film."),
    ("status", "--watch"),
    ("train", "--scenario", "freeze-backbone", "--name", "m", "--data", "nowhere"),
)


@pytest.mark.parametrize("seed", range(3))
def test_ctrl_c_in_the_first_two_seconds_is_one_line_and_130(
    seed: int, tmp_path: Path, own_state: Path
) -> None:
    draw = random.Random(seed)
    (tmp_path / "in.txt").write_text("".join(f"Match {n} was won.\n" for n in range(20_000)))
    for number in range(10):
        process = start(tmp_path, *COMMANDS[number % len(COMMANDS)])
        time.sleep(draw.uniform(0, 2))
        over = process.poll() is not None  # a quick machine, or an error that came first
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
        if not over:
            shown = err + out
            # A command that ends by itself may be over but for the interpreter's own end, which
            # dies of the signal: a shell calls that 130, too.
            ends = (130, -signal.SIGINT) if COMMANDS[number % len(COMMANDS)] != LONG else (130,)
            assert process.returncode in ends, (process.args, shown)
            assert "Traceback" not in shown
            said = [line for line in err.splitlines() if "has been submitted before" not in line]
            assert len(said) <= 1, shown
    left = [p.info["cmdline"] for p in psutil.process_iter(["cmdline"]) if _of(own_state, p)]
    assert left == []


def _of(state: Path, process: psutil.Process) -> bool:
    """Whether a process was started for the commands of this state folder."""
    try:
        return process.pid != os.getpid() and process.environ().get("MTL_STATE_DIR") == str(state)
    except psutil.Error:
        return False
