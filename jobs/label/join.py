"""Joining what an append has made to its output: one new manifest makes all of it visible.

The finished output of the append lies in ``OUT/_append``. Then, each step once or often, by whoever
finalises:

1. its parts and error files get a second name in OUT, one that holds the generation; no manifest
   lists them yet, so nothing here reads them;
2. OUT's manifest is replaced by one that lists the old parts and the new: the commit;
3. ``OUT/_append`` is emptied, its manifest last. Of a partial job it stays, for ``mtl retry``,
   until the next append.

Killed before 2, the output is the old one, after it the new one. Whether 2 is done is seen from the
manifests: that of OUT then lists what that of ``_append`` does.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from jobs.ledger.lifecycle import JobState
from jobs.output.generations import (
    engines_of,
    generation_of,
    generations_of,
    name_in,
    of_generation,
)
from jobs.output.layout import (
    ERRORS,
    HALF_WRITTEN,
    MANIFEST,
    README,
    SUCCESS,
    TOKEN_CHARS,
    generations_in,
    job_of,
    owner,
    read_manifest,
    remove_work,
    set_aside_name,
)
from jobs.output.manifest import ErrorRows, Generation, Input, Manifest, Part, Rows, sum_counts
from jobs.output.readme import readme
from jobs.specs import LabelSpec
from mtl_core.errors import OutputError
from mtl_core.storage.folder import Folder
from mtl_core.storage.place import Place


def join(out: Place, appended: Place, job: str, spec: LabelSpec) -> None:
    """Make the finished output of an append a generation of the output it appends to.

    Raises:
        OutputError: the output has other generations than when the job was submitted.
        InputError: its manifest is gone or cannot be read.
    """
    manifest = read_manifest(appended)
    base = _base(out, job, spec)
    joined = _joined(base, manifest, spec)
    names = _names(manifest, spec.generation)
    with ThreadPoolExecutor(out.transfers) as pool:
        copied = [
            pool.submit(out.copy, f"{_name_of(appended)}/{name}", to) for name, to in names.items()
        ]
        for each in copied:
            each.result()
    if _base(out, job, spec) != base:
        raise OutputError(f"{out} was changed while {job} was joined to it")
    out.write_json(MANIFEST, joined.as_json())
    out.write_text(README, readme(joined))
    _remove_unlisted(out, spec.generation, set(names.values()))
    remove_work(out, base.job)  # of a partial one: it cannot be retried any more


def is_joined(out: Place, appended: Place, job: str) -> bool:
    """Whether all that an append has made is listed in the output's manifest.

    Of a job that is retried, what it makes now is not.
    """
    mine = [each for each in generations_in(out) if each.job == job]
    if not mine:
        return False
    if owner(appended) != job:
        return True  # and cleared away
    if not appended.has(MANIFEST):
        return False
    listed = of_generation(read_manifest(out), mine[0].number)
    made = read_manifest(appended)
    return (listed.finished, [part.sha256 for part in listed.parts]) == (
        made.finished,
        [part.sha256 for part in made.parts],
    )


def clear(appended: Place, job: str) -> None:
    """Empty the folder of an append that has been joined, if it is still this job's.

    Only what such a job writes is removed, by its name; the manifest goes last, so that the folder
    can be told as joined until then.
    """
    if owner(appended) != job:
        return
    remove_work(appended, job)
    files = [*appended.names(), *appended.names(ERRORS)]
    parts = [name for name in files if name.endswith(".parquet") and job_of(appended, name) == job]
    appended.delete(*parts, README, SUCCESS)
    appended.delete(MANIFEST)
    _remove_empty(appended)


def clear_joined(out: Place, appended: Place) -> None:
    """Empty the folder of an append where a job that has been joined left it."""
    job = owner(appended)
    if job is not None and is_joined(out, appended, job):
        clear(appended, job)


def _name_of(appended: Place) -> str:
    """The name of the folder within the output."""
    return str(appended).rpartition("/")[2]


def _base(out: Place, job: str, spec: LabelSpec) -> Manifest:
    """The output without this job's generation, which is there if a partial job was retried.

    Raises:
        OutputError: the generations are not those which the job's number follows.
    """
    manifest = read_manifest(out)
    kept = tuple(each for each in generations_of(manifest) if each.job != job)
    if kept[-1].number != spec.generation - 1:
        raise OutputError(
            f"{out} has generations up to {kept[-1].number}, but {job} makes {spec.generation}; "
            "repeat the command"
        )
    last = spec.generation
    return manifest.model_copy(
        update={
            "generations": kept,
            "inputs": tuple(file for file in manifest.inputs if file.generation < last),
            "parts": tuple(part for part in manifest.parts if part.generation < last),
            "errors": tuple(file for file in manifest.errors if file.generation < last),
        }
    )


def _names(manifest: Manifest, number: int) -> dict[str, str]:
    """Parts and error files of an append, with their names in the output."""
    parts = {part.part: name_in(part.part, number) for part in manifest.parts}
    return parts | {
        entry.file: f"{ERRORS}/{name_in(_own_name(entry), number)}" for entry in manifest.errors
    }


def _own_name(entry: ErrorRows) -> str:
    """An error file's name, with its checksum where a retry may write another of that name.

    So no file is replaced that the output's manifest lists.
    """
    name = entry.file.removeprefix(f"{ERRORS}/")
    shard = name.removeprefix("_rows-").removesuffix("-aall.parquet")
    if name != set_aside_name(shard):
        return name
    return name.replace(".parquet", f"-{entry.sha256[:TOKEN_CHARS]}.parquet")


def _joined(base: Manifest, new: Manifest, spec: LabelSpec) -> Manifest:
    """The manifest that lists the parts of an output and those of an append."""
    generations = (*generations_of(base), _generation(new, spec))
    names = _names(new, spec.generation)
    parts = (*base.parts, *(_part(part, names, spec.generation) for part in new.parts))
    own = {"generation": spec.generation}
    inputs = [Input.model_validate(file.model_dump() | own) for file in new.inputs]
    errors = [e.model_copy(update={"file": names[e.file], **own}) for e in new.errors]
    partial = any(each.state == JobState.PARTIAL for each in generations)
    return base.model_copy(
        update={
            "state": str(JobState.PARTIAL if partial else JobState.DONE),
            "rows": _rows([each.rows for each in generations]),
            "tokens": sum(each.tokens for each in generations),
            "inputs": (*base.inputs, *inputs),
            "id_column": base.id_column or new.id_column,
            "engines": engines_of(parts),
            "parts": parts,
            "errors": (*base.errors, *errors),
            "attempts": sum_counts(each.attempts for each in generations),
            "finished": new.finished,
            "seconds": round(sum(each.seconds for each in generations), 3),
            "software": new.software,
            "generations": generations,
        }
    )


def _generation(new: Manifest, spec: LabelSpec) -> Generation:
    return Generation(
        number=spec.generation,
        job=new.job,
        state=new.state,
        rows=new.rows,
        first_row_id=spec.first_row_id,
        tokens=new.tokens,
        skipped_files=spec.skipped_files,
        skipped_rows=spec.skipped_rows,
        attempts=new.attempts,
        created=new.created,
        finished=new.finished,
        seconds=new.seconds,
    )


def _part(part: Part, names: dict[str, str], number: int) -> Part:
    errors = f"{ERRORS}/{part.errors}"
    renamed = names[errors].removeprefix(f"{ERRORS}/") if errors in names else part.errors
    changes = {"part": names[part.part], "errors": renamed, "generation": number}
    return part.model_copy(update=changes)


def _rows(rows: Sequence[Rows]) -> Rows:
    names = ("total", "labelled", "errors", "truncated", "duplicates", "cached")
    sums = {name: sum(getattr(each, name) for each in rows) for name in names}
    return Rows(**sums, untypical=sum_counts(each.untypical for each in rows))


def _remove_unlisted(out: Place, number: int, listed: set[str]) -> None:
    """Remove files of this generation that an append left which was given up or tried again.

    And what it had half written, whose name is enough: nobody else writes here now.
    """
    others, half = list[str](), list[str]()
    for name in (*out.names(), *out.names(ERRORS)):
        written = HALF_WRITTEN.fullmatch(name.rpartition("/")[2])
        if written and (generation_of(written["name"]) or written["name"] in (MANIFEST, README)):
            half.append(name)
        elif generation_of(name) == number and name not in listed:
            others.append(name)
    out.delete(*half, *(name for name in others if job_of(out, name) is not None))


def _remove_empty(place: Place) -> None:
    """Remove a folder of this machine if it is empty; a store has no folders."""
    if isinstance(place, Folder):
        for folder in (place.path / ERRORS, place.path):
            with suppress(OSError):
                folder.rmdir()
