"""Generations of an output: what its first job made, and what each later one appended.

All are listed in one manifest. :func:`of_generation` gives the manifest as it would be if an output
held one of them alone, so that whatever reads by a manifest can read one generation.
"""

import re
from collections.abc import Iterable

from jobs.output.manifest import EngineFacts, Generation, Manifest, Part
from mtl_core.errors import InputError

OF_GENERATION = re.compile(r"(part|_rows)-g(?P<number>[0-9]{4,})-.+\.parquet")


def name_in(name: str, number: int) -> str:
    """The name of a part or an error file of a later generation: ``part-g0002-00000-….parquet``.

    Args:
        name: as its job named it: ``part-00000-….parquet``.
    """
    kind, _, rest = name.partition("-")
    return f"{kind}-g{number:04d}-{rest}"


def generation_of(name: str) -> int | None:
    """The later generation that a file's name tells; None: it tells none."""
    found = OF_GENERATION.fullmatch(name.rpartition("/")[2])
    return int(found["number"]) if found else None


def generations_of(manifest: Manifest) -> tuple[Generation, ...]:
    """All generations of an output; one where nothing has been appended."""
    return manifest.generations or (first_generation(manifest),)


def first_generation(manifest: Manifest) -> Generation:
    """An output that nothing has been appended to, as a generation."""
    return Generation(
        number=1,
        job=manifest.job,
        state=manifest.state,
        rows=manifest.rows,
        first_row_id=0,
        tokens=manifest.tokens,
        attempts=manifest.attempts,
        created=manifest.created,
        finished=manifest.finished,
        seconds=manifest.seconds,
    )


def of_generation(manifest: Manifest, number: int) -> Manifest:
    """The manifest of one generation alone.

    Raises:
        InputError: there is no such generation.
    """
    all_of_them = generations_of(manifest)
    found = next((each for each in all_of_them if each.number == number), None)
    if found is None:
        some = "is generation 1 alone" if len(all_of_them) == 1 else f"are 1 to {len(all_of_them)}"
        raise InputError(f"there is no generation {number}; there {some}")
    parts = tuple(part for part in manifest.parts if part.generation == number)
    return manifest.model_copy(
        update={
            "job": found.job,
            "state": found.state,
            "rows": found.rows,
            "tokens": found.tokens,
            "inputs": tuple(file for file in manifest.inputs if file.generation == number),
            "engines": engines_of(parts),
            "parts": parts,
            "errors": tuple(file for file in manifest.errors if file.generation == number),
            "attempts": found.attempts,
            "created": found.created,
            "finished": found.finished,
            "seconds": found.seconds,
            "generations": (found,),
        }
    )


def before(manifest: Manifest, number: int) -> Manifest:
    """The manifest with the parts of the generations before one alone."""
    parts = tuple(part for part in manifest.parts if part.generation < number)
    return manifest.model_copy(update={"parts": parts})


def engines_of(parts: Iterable[Part]) -> tuple[EngineFacts, ...]:
    """What computed parts, each engine with its precision once."""
    found = sorted({(part.engine, part.precision) for part in parts})
    return tuple(EngineFacts(engine=engine, precision=precision) for engine, precision in found)
