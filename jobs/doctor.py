"""Examining whether this machine has what labelling and training need, and what to do if not.

The examination loads neither torch nor transformers, unless a GPU's driver is there.
"""

import math
import os
import platform
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Any, Literal, cast

import redis
from packaging.requirements import Requirement

from jobs.config_file import config_file
from jobs.embedded import redis_server_binary
from jobs.label.rates import kept_rates
from jobs.ledger.connection import client, reachable, watched_by, without_password
from jobs.ledger.presence import Presence
from jobs.ledger.sentinel import Watched, asked
from jobs.settings import Settings, source_of, variable_of
from mtl_core import __version__
from mtl_core.cores import available_cores
from mtl_core.engine.choose import choose_engine, choose_precision, gpu_trouble, has_gpu
from mtl_core.errors import MtlError
from mtl_core.model.backbones import resolve_backbone
from mtl_core.model.registry import DEFAULT_MODEL, find_model
from mtl_core.storage.folder import Folder
from mtl_core.suggest import nearest
from mtl_core.tasks import DEFAULT_TASKS

LOW_DISK = 2 << 30
SLOWER = 1.1
"""How many times as fast another precision must be to be worth a note."""
ALIKE = 0.9
"""A variable this similar to a setting's variable (1: equal) is taken for a misspelling of it."""
PACKAGES = ("torch", "transformers", "openvino", "celery", "kombu", "redis", "pyarrow")


@dataclass(frozen=True)
class Finding:
    """One line of the examination."""

    subject: str
    state: Literal["ok", "note", "wrong"]
    """``note``: works, but one may want to know; ``wrong``: something will not work."""
    found: str
    remedy: str = ""


def examine(config: Settings) -> Iterator[Finding]:
    """Examine this machine; yields the findings in the order in which one would mend them."""
    checks: tuple[tuple[str, Callable[[Settings], Finding]], ...] = (
        ("versions", _versions),
        ("settings", _settings),
        ("redis", _redis),
        ("workers", _workers),
        ("engine", _engine),
        ("precision", _precision),
        ("GPU", _gpu),
        ("threads", _threads),
        ("model", _model),
        ("store", _store),
        ("backbone", _backbone),
        ("data", _data),
        ("disk", _disk),
    )
    for subject, check in checks:
        try:
            yield check(config)
        except MtlError as error:
            yield Finding(subject, "wrong", str(error))


def _versions(config: Settings) -> Finding:
    found = [f"mtl-batch {__version__}", f"Python {platform.python_version()}"]
    found += [f"{name} {there}" for name in PACKAGES if (there := _version(name))]
    shown = ", ".join(found)
    if unfit := _unfit():
        remedy = "pip install -c constraints.txt, as `make setup` does"
        return Finding("versions", "wrong", f"{shown}; {unfit}", remedy)
    if _version("openvino") is None:
        remedy = "pip install 'mtl-batch[openvino]' labels faster on a CPU"
        return Finding("versions", "note", shown, remedy)
    return Finding("versions", "ok", shown)


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _unfit() -> str:
    """Required packages that are missing or of a version that does not fit."""
    wrong = []
    for text in requires("mtl-batch") or ():
        wanted = Requirement(text)
        if wanted.marker is not None and not wanted.marker.evaluate({"extra": ""}):
            continue
        there = _version(wanted.name)
        if there is None or not wanted.specifier.contains(there, prereleases=True):
            wrong.append(f"{wanted.name} {there or 'is missing'} (needs {wanted.specifier})")
    return ", ".join(wrong)


def _settings(config: Settings) -> Finding:
    file = config_file()
    given = [variable_of(n) for n in Settings.model_fields if source_of(n) == "environment"]
    text = f"{file or 'no mtl.toml'}; in the environment: {', '.join(given) or 'nothing'}"
    known = [variable_of(name) for name in Settings.model_fields]
    for name in os.environ:
        near = nearest(name, known, ALIKE)
        if near and name not in known:
            return Finding("settings", "note", f"{text}, and {name}", f"did you mean {near}?")
    return Finding("settings", "ok", f"{text} (see `mtl config`)")


def _redis(config: Settings) -> Finding:
    if config.redis_url is None:
        return Finding(
            "redis",
            "ok",
            f"embedded ({redis_server_binary()}); MTL_REDIS_URL is not set",
        )
    shown = without_password(config.redis_url)
    with reachable(config.redis_url):
        found = client(config.redis_url, patience=0, timeout_s=5)
        info = cast(dict[str, Any], found.info())
    text = f"{shown}, {info['redis_version']}, {info['used_memory_human']} used"
    if info["maxmemory_policy"] != "noeviction":
        return Finding(
            "redis",
            "wrong",
            f"{text}, maxmemory-policy {info['maxmemory_policy']}: it may drop jobs",
            "redis-cli config set maxmemory-policy noeviction",
        )
    if not info["aof_enabled"]:
        return Finding(
            "redis",
            "note",
            f"{text}, no append-only file: a restart of Redis forgets all jobs",
            "start it with --appendonly yes",
        )
    if 0 < info["maxmemory"] < 1.25 * info["used_memory"]:
        remedy = "free memory or raise maxmemory: a full Redis takes no more jobs"
        return Finding("redis", "note", f"{text} of {info['maxmemory_human']}", remedy)
    if (watched := watched_by(config.redis_url)) is not None:
        return _fail_over(text, watched, found, int(info["connected_slaves"]))
    return Finding("redis", "ok", text)


def _fail_over(text: str, watched: Watched, primary: redis.Redis, replicas: int) -> Finding:
    """What a Redis that Sentinels watch needs beside, to be failed over without a loss unseen."""
    told = asked(watched)
    states = [state for state in told if isinstance(state, dict)]
    up = len(states)
    text = f"{text}; {up} of {len(told)} Sentinels answer, replicas: {replicas}"
    if not replicas:
        return Finding("redis", "note", text, "start a replica: without one there is no fail-over")
    quorum = max((state.get("quorum", 0) for state in states), default=0)
    if up < max(quorum, len(told) // 2 + 1):
        return Finding("redis", "note", text, "start the other Sentinels: these are too few")
    with suppress(redis.ResponseError):  # CONFIG may be forbidden
        needed = cast(dict[str, str], primary.config_get("min-replicas-to-write"))
        if needed.get("min-replicas-to-write") == "0":
            return Finding(
                "redis",
                "note",
                f"{text}, min-replicas-to-write 0: one that is cut off takes writes that are lost",
                "redis-cli config set min-replicas-to-write 1 on each, and config rewrite",
            )
    return Finding("redis", "ok", text)


def _workers(config: Settings) -> Finding:
    if config.redis_url is None:
        return Finding("workers", "ok", "every command runs one of its own")
    with reachable(config.redis_url):
        found = Presence(client(config.redis_url, patience=0, timeout_s=5)).versions()
    if not found:
        return Finding("workers", "note", "none", "start one with `mtl worker`")
    names = f"{len(found)}: {', '.join(found)}"
    others = [f"{name} {own}" for name, own in found.items() if own != __version__]
    if others:
        text = f"{names}; of another version than {__version__} here: {', '.join(others)}"
        return Finding("workers", "note", text, "install one version everywhere")
    return Finding("workers", "ok", names)


def _engine(config: Settings) -> Finding:
    name = choose_engine(config.engine)
    return Finding("engine", "ok", f"{name}, {choose_precision(name, config.precision)}")


def _precision(config: Settings) -> Finding:
    rates = kept_rates(config)
    if rates is None:
        return Finding("precision", "ok", "not measured here; `mtl doctor --measure` does")
    used = choose_precision(choose_engine(config.engine), config.precision)
    if rates.tokens_per_s[rates.fastest] > SLOWER * rates.tokens_per_s.get(used, math.inf):
        remedy = f"MTL_PRECISION={rates.fastest}, if its labels will do: docs/performance.md"
        return Finding("precision", "note", f"{rates}; labelled in {used}", remedy)
    return Finding("precision", "ok", str(rates))


def _gpu(config: Settings) -> Finding:
    if trouble := gpu_trouble():
        remedy = "install the CUDA build of torch, or a newer driver (docs/containers.md)"
        return Finding("GPU", "wrong", f"there is one, but {trouble}", remedy)
    if not has_gpu():
        return Finding("GPU", "ok", "none")
    import torch

    name, memory = torch.cuda.get_device_name(), torch.cuda.get_device_properties(0).total_memory
    return Finding("GPU", "ok", f"{torch.cuda.device_count()} × {name}, {memory >> 30} GiB")


def _threads(config: Settings) -> Finding:
    own = available_cores()
    if config.threads is not None and config.threads > own:
        text = f"{config.threads} each child (MTL_THREADS), but {own} cores"
        return Finding("threads", "note", text, "more threads than cores are slower: unset it")
    if config.threads is not None:
        return Finding("threads", "ok", f"{config.threads} each child (MTL_THREADS); {own} cores")
    return Finding("threads", "ok", f"{own} cores, shared out to a worker's children")


def _model(config: Settings) -> Finding:
    entry = find_model(DEFAULT_MODEL, config.models, config.model_copies)
    return Finding("model", "ok", f"{entry.name}, sha256 {entry.sha256()[:12]}…, {entry.home}")


def _store(config: Settings) -> Finding:
    if isinstance(config.models, Folder):
        return Finding("store", "ok", "models are in a folder of this machine")
    count = len(config.models.folders())
    return Finding("store", "ok", f"{config.models} answers: {count} folders")


def _backbone(config: Settings) -> Finding:
    name = find_model(DEFAULT_MODEL, config.models, config.model_copies).config()["backbone"]
    files = resolve_backbone(name)
    return Finding("backbone", "ok", f"{name}, {files.folder}")


def _data(config: Settings) -> Finding:
    if config.data_dir is None:
        return Finding(
            "data",
            "note",
            "MTL_DATA_DIR is not set: training data comes from the hub",
            "for training: set it to a folder of Parquet, see docs/howto-train.md",
        )
    folders = [task.source.folder for task in DEFAULT_TASKS if task.source is not None]
    missing = [name for name in folders if not (config.data_dir / name).is_dir()]
    if missing:
        return Finding(
            "data",
            "wrong",
            f"{config.data_dir} lacks {', '.join(missing)}",
            "see docs/howto-train.md for the layout",
        )
    return Finding("data", "ok", f"{config.data_dir}: {', '.join(folders)}")


def _disk(config: Settings) -> Finding:
    folder = next(p for p in (config.state_dir, *config.state_dir.parents) if p.is_dir())
    free = shutil.disk_usage(folder).free
    text = f"{free / 2**30:.1f} GiB free at {Path(config.state_dir)}"
    if not os.access(folder, os.W_OK):
        return Finding("disk", "wrong", f"{folder} cannot be written", "set MTL_STATE_DIR")
    if free < LOW_DISK:
        return Finding("disk", "note", text, "make room, or set MTL_STATE_DIR")
    return Finding("disk", "ok", text)
