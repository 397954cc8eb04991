"""What is said of a job that appends: to what, and what it leaves out."""

from typing import Any

from jobs.specs import LabelSpec


def appended_line(spec: LabelSpec) -> str:
    """What an append adds to, and what it leaves out."""
    skipped = said_skipped(spec.skipped_files, spec.skipped_rows)
    return (
        f"generation {spec.generation} of {spec.appends}, its rows from row_id "
        f"{spec.first_row_id:,}" + (f"; skipped, as it holds them: {skipped}" if skipped else "")
    )


def said_skipped(files: int, rows: int) -> str:
    """In words what an append leaves out; empty: nothing."""
    counts = ((files, "file"), (rows, "row of new files"))
    plural = {"row of new files": "rows of new files"}
    return " and ".join(
        f"{number:,} {plural.get(noun, noun + 's') if number != 1 else noun}"
        for number, noun in counts
        if number
    )


def appended_json(spec: LabelSpec) -> dict[str, Any]:
    """The same for ``--json``."""
    return {
        "generation": spec.generation,
        "first_row_id": spec.first_row_id,
        "skipped": {"files": spec.skipped_files, "rows": spec.skipped_rows},
    }
