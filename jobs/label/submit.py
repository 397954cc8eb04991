"""Submitting a label job: all is checked before it is queued; the same again is the same job."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from redis.exceptions import LockError, RedisError

from jobs.input.ids import check_ids
from jobs.input.locate import locate
from jobs.input.source import AsGiven, Source, describe, open_source
from jobs.label.plan import plan
from jobs.ledger.ledger import JobClosed, Ledger
from jobs.ledger.lifecycle import PLANNABLE, RESTING, JobState
from jobs.ledger.messages import Publisher
from jobs.ledger.presence import Lock, planner_lock
from jobs.output.layout import (
    SHARDS,
    WORK,
    finished,
    release_folder,
    reopen_folder,
    staged_name,
    take_folder,
)
from jobs.roots import check_address, check_backbone_inside, check_inside, place_inside
from jobs.settings import Settings
from jobs.specs import Format, LabelSpec, job_id
from mtl_core.config import Embedding, LabelPrecision
from mtl_core.errors import (
    InputError,
    LedgerUnreachableError,
    ModelError,
    MtlError,
    OutputError,
    StoreError,
    UnknownTaskError,
)
from mtl_core.files import file_sha256
from mtl_core.model.registry import find_model
from mtl_core.storage.address import is_address, local_path, place_of
from mtl_core.storage.folder import Folder
from mtl_core.storage.parquet import output_columns
from mtl_core.storage.place import Place
from mtl_core.tasks import Task


@dataclass(frozen=True)
class LabelJob:
    """A checked label job, not yet queued."""

    id: str
    spec: LabelSpec
    source: Source
    notes: tuple[str, ...] = ()
    """What the user should know of how the input was found and read."""

    @property
    def output(self) -> Place:
        """Where its output goes."""
        return place_of(self.spec.output)

    @property
    def finished(self) -> bool:
        """Whether its output is there already, whole."""
        return finished(self.output, self.id)


def prepare_label(
    inputs: tuple[str, ...],
    output: str,
    settings: Settings,
    *,
    text_columns: Sequence[str],
    input_format: Format | None = None,
    encoding: str | None = None,
    header: bool | None = None,
    id_column: str | None = None,
    limit: int | None = None,
    model: str,
    only: Sequence[str] = (),
    top: int = 0,
    embedding: Embedding,
    abstain_below: float | None,
    shard_rows: int,
    shard_tokens: int,
    precision: LabelPrecision = "auto",
    cache: bool = False,
) -> LabelJob:
    """Check inputs, columns and model, and make the job's spec and id.

    Args:
        input_format: of files whose name does not tell.
        encoding: of text files; found where it is not given.
        header: whether csv and tsv files have a header line; found where it is not given.
        id_column: to be checked to differ in every row.
        limit: label this many of the first rows only.
        only: tasks to write; empty: all.
        top: write so many labels of each task, with their scores.
        abstain_below: a precision; rows whose label is not that sure get none.
        precision: what to compute in; ``auto`` leaves it to each worker.
        cache: let workers look up and keep answers in their machine's cache.
    Raises:
        InputError: a file or column cannot be used.
        ModelError: no such model, or it knows no threshold for the precision wanted.
    """
    target = str(place_of(output)) if is_address(output) else str(local_path(output).absolute())
    for address in filter(is_address, inputs):
        check_address(address, settings)
    located = locate(inputs, settings.spool)
    for file in located.files:
        check_inside(file.path, settings)
    place_inside(target, settings)
    given = AsGiven(input_format, encoding, header, tuple(text_columns))
    files, notes = describe(located.files, given)
    entry = find_model(model, settings.models, settings.model_copies)
    if not isinstance(entry.home, Folder):
        place_inside(str(entry.home), settings)
    config = entry.config()
    check_backbone_inside(config["backbone"], settings)
    tasks = _chosen_tasks(config, only)
    taken = output_columns([Task(name, labels) for name, labels in tasks])
    source = open_source(files, text_columns, taken, limit)
    if id_column is not None:
        check_ids(source, id_column)
    spec = LabelSpec(
        inputs=files,
        text_columns=source.text_columns,
        text_column=source.text_column,
        id_column=id_column,
        limit=limit,
        output=target,
        model=entry.name,
        model_dir=str(entry.home),
        model_sha256=entry.sha256(),
        backbone_sha256=config["backbone_sha256"],
        tasks=tasks,
        embedding_size=config["embedding_size"],
        embedding=embedding,
        precision=precision,
        thresholds=thresholds_for(abstain_below, config, [name for name, _ in tasks]),
        top=top,
        shard_rows=shard_rows,
        shard_tokens=shard_tokens,
        cache=cache,
    )
    return LabelJob(job_id(spec), spec, source, (*located.notes, *notes, *source.notes))


def _chosen_tasks(
    config: dict[str, Any], only: Sequence[str]
) -> tuple[tuple[str, tuple[str, ...]], ...]:
    tasks = {task["name"]: tuple(task["labels"]) for task in config["tasks"]}
    for name in only:
        if name not in tasks:
            near = get_close_matches(name, tasks, n=1)
            hint = f"did you mean '{near[0]}'? " if near else ""
            raise UnknownTaskError(
                f"the model has no task '{name}'; {hint}it has: {', '.join(tasks)}"
            )
    return tuple((name, labels) for name, labels in tasks.items() if not only or name in only)


def thresholds_for(
    wanted: float | None, config: dict[str, Any], tasks: Sequence[str]
) -> tuple[tuple[str, float], ...]:
    """The least score of each task's labels that have a precision.

    Raises:
        ModelError: on held-out rows, the model's labels of some task never had it.
    """
    if wanted is None:
        return ()
    found = []
    for task in tasks:
        known = config.get("calibration", {}).get(task, {}).get("thresholds", {})
        if f"{wanted:.2f}" not in known:
            best = f"the best is {max(known)}" if known else "it was never calibrated"
            raise ModelError(f"the model has no threshold for {task} at precision {wanted}; {best}")
        found.append((task, known[f"{wanted:.2f}"]))
    return tuple(found)


def open_label(ledger: Ledger, job: LabelJob, priority: str) -> bool:
    """Take the output folder and put the job into the ledger, not yet planned.

    A job that is there already is joined. One that came to rest without its output being whole
    (failed, cancelled, paused) is opened again; one whose output or staged input has been deleted
    begins anew.

    Returns:
        whether the job is new.
    Raises:
        OutputError: the output folder cannot be used.
    """
    with _taking(ledger, job.output):
        emptied = take_folder(job.output, job.id, job.spec.model_dump(mode="json"))
        new = ledger.create(job.id, job.spec, priority)
        if not new:
            _open_again(ledger, job, emptied=emptied)
    return new


@contextmanager
def _taking(ledger: Ledger, output: Place) -> Iterator[None]:
    """Let one submit at a time take a folder.

    The folder itself decides who has it; but not every object store knows a conditional put.
    """
    digest = hashlib.sha256(str(output).encode()).hexdigest()[:16]
    lease_s = ledger.settings.lease_s
    lock = ledger.redis.lock(f"mtl:taking:{digest}", timeout=lease_s, blocking_timeout=4 * lease_s)
    if not lock.acquire():
        raise OutputError(f"{output} is being taken by another command; repeat this one")
    try:
        yield
    finally:
        with suppress(LockError):  # it ran out: the folder decides all the same
            lock.release()


def plan_label(
    ledger: Ledger, publisher: Publisher, job: LabelJob, planned: Callable[[], None]
) -> bool:
    """Plan an opened job, unless another process is at it or has done it.

    Call again while the job is still queued or planning: the other process may have died.

    Args:
        planned: called while planning goes on, for showing progress.
    Returns:
        whether this call planned it.
    Raises:
        InputError: the input holds no rows, or is damaged.
    """
    if ledger.state(job.id) not in PLANNABLE:
        return False
    with Lock(ledger.redis, planner_lock(job.id)).held(ledger.settings.lease_s) as alone:
        if not alone or ledger.state(job.id) not in PLANNABLE:
            return False
        ledger.transition(job.id, JobState.PLANNING)
        try:
            with _planning(ledger, job):
                plan(ledger, publisher, job.id, job.spec, job.source, planned)
        except JobClosed:
            return False  # cancelled or paused meanwhile: its state tells
        ledger.transition(job.id, JobState.RUNNING)
    if ledger.snapshot(job.id).settled:
        publisher.finalise("label", job.id)  # there is no later shard that would do it
    return True


@contextmanager
def _planning(ledger: Ledger, job: LabelJob) -> Iterator[None]:
    """Whatever ends planning early brings the job to rest with its reason; none stays planning."""
    try:
        yield
    except InputError as error:
        ledger.transition(job.id, JobState.FAILED, str(error))
        release_folder(job.output, job.id)
        raise
    except OSError as error:
        reason = f"planning could not write {job.output} ({error.strerror or error})"
        ledger.transition(job.id, JobState.PAUSED, reason)
        if isinstance(error, StoreError):
            raise
        raise OutputError(f"{reason}; mend that and repeat the command") from error
    except (KeyboardInterrupt, SystemExit):
        ledger.transition(job.id, JobState.PAUSED, "stopped while it was planned")
        raise
    except (JobClosed, RedisError, LedgerUnreachableError):
        raise  # nothing is to be, or can be, written down; whoever watches the job plans again
    except Exception as error:
        what = "" if isinstance(error, MtlError) else f"{type(error).__name__}: "
        reason = f"planning failed: {what}{error}"
        ledger.transition(job.id, JobState.FAILED, reason)
        release_folder(job.output, job.id)
        raise


def label_job_of(job: str, spec: LabelSpec) -> LabelJob:
    """A label job again from its spec, for going on with it.

    Raises:
        InputError: an input is missing, or not what it was when the job was submitted.
    """
    for file in spec.inputs:
        path = Path(file.path)
        if not path.is_file():
            raise InputError(f"{file.name}: the job's input has gone")
        if path.stat().st_size != file.bytes or file_sha256(path) != file.sha256:
            raise InputError(
                f"{file.name} has changed since {job} was submitted; "
                "submit it anew into another folder"
            )
    taken = output_columns([Task(name, labels) for name, labels in spec.tasks])
    return LabelJob(job, spec, open_source(spec.inputs, spec.text_columns, taken, spec.limit))


def open_again(ledger: Ledger, job: LabelJob) -> None:
    """Let a job at rest go on, from the beginning if its output has gone."""
    with _taking(ledger, job.output):
        emptied = take_folder(job.output, job.id, job.spec.model_dump(mode="json"))
        reopen_folder(job.output)
        _open_again(ledger, job, emptied=emptied)


def _open_again(ledger: Ledger, job: LabelJob, *, emptied: bool) -> None:
    state = ledger.state(job.id)
    if job.finished or state is JobState.CANCELLING:
        return
    if emptied or state is JobState.DONE or not _is_there(ledger, job):
        priority = ledger.snapshot(job.id).priority
        ledger.delete(job.id)
        ledger.create(job.id, job.spec, priority)
    elif state in RESTING:
        ledger.reopen(job.id)


def _is_there(ledger: Ledger, job: LabelJob) -> bool:
    """Whether the parts of all shards that are done, and the staged rows of all others, exist."""
    done = ledger.results(job.id)
    parts = set(job.output.matching("part-*.parquet"))
    staged = set(job.output.names(f"{WORK}/{SHARDS}"))
    waiting = {name: s for name, s in ledger.shards(job.id).items() if name not in done}
    return all(result["part"] in parts for result in done.values()) and all(
        staged_name(shard["file"]) in staged for shard in waiting.values()
    )
