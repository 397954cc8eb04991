"""How fast this machine labels in each precision: measured when asked, kept in the state folder.

A chip decides which precision is fastest: int8 pays where it has VNNI, and costs where it has not.
"""

import platform
import time
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from statistics import median
from typing import TYPE_CHECKING

import numpy as np
from pydantic import TypeAdapter

from jobs.settings import Settings
from mtl_core import __version__
from mtl_core.cores import available_cores
from mtl_core.engine.choose import card, choose_engine, choose_precision, has_gpu
from mtl_core.files import write_json
from mtl_core.model.registry import DEFAULT_MODEL, find_model

if TYPE_CHECKING:
    from mtl_core.engine.base import Engine

FILE = "rates.json"
ROWS, WORDS, RUNS = 1024, 30, 3
"""Texts labelled in each run, words of one, and runs, of which the median counts."""
VOCABULARY = (
    "the of and a in to is was it for on film market team game war bank robot minister company "
    "shares season space science police goal good bad slow long new first last year week people"
)


@dataclass(frozen=True)
class Machine:
    """What rates depend on."""

    chip: str
    engine: str
    cores: int
    version: str
    """Of this software."""


@dataclass(frozen=True)
class Rates:
    """What was measured on a machine."""

    machine: Machine
    measured: str
    """The day, as YYYY-MM-DD."""
    tokens_per_s: dict[str, float]
    """By precision, the fastest first."""

    @property
    def fastest(self) -> str:
        """The fastest precision."""
        return next(iter(self.tokens_per_s))

    def __str__(self) -> str:
        """In words: each precision with its rate as a multiple of float32's."""
        base = self.tokens_per_s["float32"]
        shown = ", ".join(f"{p} {rate / base:.2f}" for p, rate in self.tokens_per_s.items())
        return f"{self.fastest} is fastest here (float32 = 1: {shown}; measured {self.measured})"


_READER = TypeAdapter(Rates)


def measure_rates(config: Settings) -> Rates:
    """Label made-up texts with the shipped model in every precision there is, and keep the rates.

    Takes up to a minute or two: the graph of int8 is made for it.

    Raises:
        ModelError: the model cannot be loaded.
        OSError: the state folder cannot be written.
    """
    draw, words = np.random.default_rng(0), VOCABULARY.split()
    texts = [" ".join(draw.choice(words, size=draw.poisson(WORDS) + 1)) for _ in range(ROWS)]
    found = {each: _rate(config, each, texts) for each in _precisions(config)}
    order = sorted(found, key=lambda each: -found[each])
    today = time.strftime("%Y-%m-%d")
    rates = Rates(_here(config), today, {each: round(found[each], 1) for each in order})
    config.state_dir.mkdir(parents=True, exist_ok=True)
    write_json(config.state_dir / FILE, asdict(rates))
    return rates


def kept_rates(config: Settings) -> Rates | None:
    """The rates that were measured on this machine with this software; None: there are none."""
    try:
        rates = _READER.validate_json((config.state_dir / FILE).read_bytes())
    except (OSError, ValueError):
        return None
    return rates if rates.machine == _here(config) and "float32" in rates.tokens_per_s else None


def slower_than_float32(config: Settings, precision: str) -> str:
    """That a precision is slower here than float32, in words; empty if it is not, or unknown."""
    if precision in ("auto", "float32"):  # looking would load the engine's library
        return ""
    rates = kept_rates(config)
    if rates is None or precision not in rates.tokens_per_s:
        return ""
    share = rates.tokens_per_s[precision] / rates.tokens_per_s["float32"]
    return f"{precision} is slower on this machine: {rates}" if share < 1 else ""


def _here(config: Settings) -> Machine:
    engine = choose_engine(config.engine)
    return Machine(_chip(engine), engine, config.threads or available_cores(), __version__)


def _chip(engine: str) -> str:
    """The chip's name and what it can compute in."""
    if engine != "openvino":
        return card() or platform.processor() or platform.machine()
    import openvino

    core = openvino.Core()
    capable = sorted(core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"))
    return f"{core.get_property('CPU', 'FULL_DEVICE_NAME').strip()} ({', '.join(capable)})"


def _precisions(config: Settings) -> list[str]:
    engine = choose_engine(config.engine)
    own = ["float32"]
    if (auto := choose_precision(engine, "auto")) != "float32":
        own.append(auto)
    if auto == "bfloat16" and engine == "torch" and has_gpu():
        own.append("float16")
    if engine == "openvino" and find_spec("nncf") is not None:
        own.append("int8")
    return own


def _rate(config: Settings, precision: str, texts: list[str]) -> float:
    """Tokens a second."""
    from mtl_core.engine.load import load_engine

    folder = find_model(DEFAULT_MODEL, config.models, config.model_copies).folder
    engine: Engine = load_engine(
        *(folder, config.engine, precision),
        cache=config.engines,
        threads=config.threads,
        calibration=texts[:300],
    )
    engine.label(texts[:64], lambda done: None)  # compiling and warming up is not timed
    rates = []
    for _ in range(RUNS):
        started = time.perf_counter()
        labelled = engine.label(texts, lambda done: None)
        rates.append(int(labelled.lengths.sum()) / (time.perf_counter() - started))
    return median(rates)
