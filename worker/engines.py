"""The engines of a worker: made once, kept between shards."""

import hashlib
import json
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from jobs.label.staging import read_first_shard, text_column_of
from jobs.roots import model_folder
from jobs.settings import settings
from jobs.specs import LabelSpec, TeacherModel
from mtl_core.config import LabelPrecision
from mtl_core.engine.base import Engine
from mtl_core.engine.cache import LabelCache
from mtl_core.engine.heads import Heads, read_heads
from mtl_core.engine.load import load_engine
from mtl_core.engine.quantise import CALIBRATION_TEXTS
from mtl_core.errors import ModelError
from mtl_core.files import file_sha256
from mtl_core.model.config import CONFIG, TYPICALITY, WEIGHTS
from mtl_core.model.typicality import Typicality, read_typicality
from mtl_core.pulse import Pulse, no_pulse, with_pulse
from mtl_core.storage.place import Place
from worker.blame import own_trouble
from worker.process.own import worker_name
from worker.process.threads import threads_of_child

CACHE_FILE = "label-cache.sqlite"
ENGINES_KEPT = 2

_engines: dict[tuple[str, ...], Engine] = {}
"""The engines that this process used last, by what they were made of; the last used at the end."""


def folder_as_submitted(model: TeacherModel, pulse: Pulse) -> Path:
    """The folder of a model that a train job reads, on this machine; of a store it is copied first.

    Raises:
        SettingsError: it lies outside the configured roots, or cannot be copied here.
        ModelError: it has changed since the job was submitted.
    """
    folder = folder_of(model.home, model.sha256, pulse)
    if file_sha256(folder / WEIGHTS) != model.sha256:
        raise ModelError(f"model '{model.name}' has changed since the job was submitted")
    return folder


def engine_for(
    folder: Path,
    precision: LabelPrecision = "auto",
    calibration: Sequence[str] = (),
    pulse: Pulse = no_pulse,
) -> Engine:
    """The engine of a model directory, kept between shards.

    Engines are told apart by what the folder holds and not by its name alone: a model may be
    trained anew under the name of another.

    Args:
        precision: the job's precision, or this worker's own if the job leaves it open.
        calibration: texts that int8 is calibrated on.
    Raises:
        SettingsError: the model, the engine folder or the temporary folder cannot be used.
    """
    with own_trouble("the model"):
        contents = [_sha256(folder / name) for name in (WEIGHTS, CONFIG)]
    texts = hashlib.sha256(json.dumps(list(calibration)).encode()).hexdigest()
    key = (str(folder), *contents, precision, texts)
    engine = _engines.pop(key, None)
    if engine is None:
        while len(_engines) >= ENGINES_KEPT:  # before the new one needs the memory
            del _engines[next(iter(_engines))]
        config = settings()
        with own_trouble("the engine folder, model or temporary folder"):
            engine = load_engine(
                *(folder, config.engine, precision),
                cache=config.engines,
                threads=threads_of_child(config),
                calibration=calibration,
                pulse=pulse,
            )
    _engines[key] = engine
    return engine


def engine_of(spec: LabelSpec, folder: Path, output: Place, pulse: Pulse = no_pulse) -> Engine:
    """The engine for a label job, checked to hold the job's model.

    Args:
        folder: the model's folder, as :func:`folder_of` gives it.
        output: the job's output, where its first shard is staged; int8 is calibrated on that.
    Raises:
        ModelError: the folder holds another model than the job was submitted with.
    """
    precision = spec.precision if spec.precision != "auto" else settings().precision
    texts = _calibration(output, spec) if precision == "int8" else ()
    engine = engine_for(folder, precision, texts, pulse)
    _demand_model(spec, engine.model_sha256)
    return engine


def heads_of(spec: LabelSpec, folder: Path) -> Heads:
    """The heads for a label job that needs no engine, checked to be those of the job's model.

    Args:
        folder: the model's folder, as :func:`folder_of` gives it.
    Raises:
        ModelError: the folder holds another model than the job was submitted with.
    """
    with own_trouble("the model"):
        contents = [_sha256(folder / name) for name in (WEIGHTS, CONFIG)]
    heads = _heads(folder, *contents)
    _demand_model(spec, heads.model_sha256)
    return heads


@lru_cache(maxsize=ENGINES_KEPT)
def _heads(folder: Path, *contents: str) -> Heads:
    with own_trouble("the model"):
        return read_heads(folder)


def _demand_model(spec: LabelSpec, sha256: str) -> None:
    if sha256 != spec.model_sha256:
        raise ModelError(
            f"model '{spec.model}' on worker {worker_name()} has sha256 "
            f"{sha256[:12]}…, the job was submitted with {spec.model_sha256[:12]}…"
        )


def typicality_of(spec: LabelSpec, folder: Path) -> dict[str, Typicality]:
    """Each task's statistics of typicality, checked to be the job's; empty if the job has none.

    Args:
        folder: the model's folder, as :func:`folder_of` gives it.
    Raises:
        ModelError: the folder holds other statistics than the job was submitted with.
    """
    if not spec.typicality_sha256:
        return {}
    path = folder / TYPICALITY
    with own_trouble("the model"):
        found = _sha256(path) if path.is_file() else "none"
    if found != spec.typicality_sha256:
        raise ModelError(
            f"model '{spec.model}' on worker {worker_name()} has statistics of typicality with "
            f"sha256 {found[:12]}…, the job was submitted with {spec.typicality_sha256[:12]}…"
        )
    return _statistics(folder, spec.model_sha256, found)


@lru_cache(maxsize=ENGINES_KEPT)
def _statistics(folder: Path, model_sha256: str, sha256: str) -> dict[str, Typicality]:
    with own_trouble("the model"):
        return read_typicality(folder, model_sha256)


def folder_of(home: str, sha256: str, pulse: Pulse = no_pulse) -> Path:
    """The folder of a model on this machine; a model of an object store is copied first.

    Args:
        home: path or address of the model's directory.
        sha256: of its weights.
    Raises:
        SettingsError: the model lies outside the configured roots, or cannot be copied here.
    """
    return Path(with_pulse(pulse, _model_folder, home, sha256))


@lru_cache(maxsize=8)
def _model_folder(where: str, sha256: str) -> str:
    # Kept between shards, because finding an existing copy, too, takes a request to the store.
    with own_trouble("the copy of the model"):
        return str(model_folder(where, sha256, settings(), settings().store_patience_s))


def _sha256(path: Path) -> str:
    """A file's SHA-256, computed again only if the file was changed or replaced."""
    found = path.stat()
    return _sha256_of(path, found.st_mtime_ns, found.st_size, found.st_ino)


@lru_cache(maxsize=16)
def _sha256_of(path: Path, *state: int) -> str:
    return file_sha256(path)


@lru_cache(maxsize=2)
def _calibration(output: Place, spec: LabelSpec) -> tuple[str, ...]:
    return calibration_texts(output)


def calibration_texts(output: Place) -> tuple[str, ...]:
    """Texts spread over the job's first shard: every worker takes the same ones."""
    shard = read_first_shard(output)
    step = max(1, len(shard) // CALIBRATION_TEXTS)
    texts: list[str] = shard.column(text_column_of(shard)).to_pylist()
    return tuple(texts[::step][:CALIBRATION_TEXTS])


def cache_for(engine: Engine) -> LabelCache:
    """This machine's cache of labelled texts, for the answers of one engine."""
    config = settings()
    with own_trouble("the cache of labelled texts"):
        return LabelCache(
            config.state_dir / CACHE_FILE,
            engine.config,
            engine.model_sha256,
            engine.identity,
            int(config.cache_gb * 2**30),
        )
