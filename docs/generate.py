"""Writes what the docs take from the code: ``python docs/generate.py``; a test fails when stale."""

from pathlib import Path

import click

from jobs.cli.commands import COMMANDS
from jobs.cli.group import main
from jobs.settings import Settings, variable_of
from mtl_core.config import EMBEDDINGS
from mtl_core.errors import MtlError
from mtl_core.storage.parquet import ERROR_SCHEMA, label_fields
from mtl_core.tasks import DEFAULT_TASKS

FOLDER = Path(__file__).parent
MADE = "<!-- made by docs/generate.py; edit the code, not this -->"


DELTA_TYPES = """`mtl collect OUT -o TABLE.delta` writes the same columns; Delta has fewer types:

| in the output | in the table |
|---|---|
| categories (labels: `dictionary`) | `string` |
| lists of one length (`embedding`: `fixed_size_list`) | `array` |
| `halffloat` (`--embedding float16`) | `float` |
| `uint8` (`--embedding binary`), `uint16`, `uint32` | `short`, `integer`, `long` |
| `uint64` | `decimal(20,0)` |
| `timestamp` of any unit | microseconds; a value that would lose digits is refused |
| UUIDs | `string` |
| times of day, durations, columns without type | left out, and said |

All columns may be null there.""".splitlines()


def commands() -> str:
    """Every command's help, and every setting."""
    lines = ["# Commands and settings", "", MADE, ""]
    context = main.make_context("mtl", ["label"], terminal_width=100)
    section = ""
    for name, place in COMMANDS.items():
        if place.section != section:
            section = place.section
            lines += [f"## {section}", ""]
        command = main.get_command(context, name)
        assert command is not None
        with click.Context(command, context, name, terminal_width=100) as inner:
            lines += [f"### mtl {name}", "", "```text", command.get_help(inner), "```", ""]
    lines += ["## Settings", "", "| in mtl.toml | variable | default | |", "|---|---|---|---|"]
    for name, field in Settings.model_fields.items():
        default = "" if field.default_factory or field.default is None else str(field.default)
        text = (field.description or "").replace("\n", " ").replace("|", "\\|")
        lines.append(f"| `{name}` | `{variable_of(name)}` | {default} | {text} |")
    return "\n".join(lines) + "\n"


def schema() -> str:
    """The columns of the Parquet output."""
    lines = ["# Columns of the output", "", MADE, ""]
    lines += ["Behind `row_id` (int64: the row's place in the whole input, from 0) and the input's"]
    lines += ["own columns; `--abstain-below` and `--min-typicality` make labels nullable, `--top`"]
    lines += [
        "adds `TASK_top`; models of earlier versions have no `TASK_typicality`. Of an output that",
        "was appended to, `row_id` runs on through the generations; rows skipped have none.",
        "",
    ]
    for embedding in EMBEDDINGS:
        lines += [f"## --embedding {embedding}", "", "| column | type | null |", "|---|---|---|"]
        for field in label_fields(DEFAULT_TASKS, 256, embedding, top=2, typicality=True):
            nullable = "may be" if field.nullable else "never"
            lines.append(f"| `{field.name}` | `{field.type}` | {nullable} |")
        lines.append("")
    lines += ["## In a Delta table", "", *DELTA_TYPES, ""]
    lines += ["## errors/_rows-*.parquet", "", "| column | type |", "|---|---|"]
    lines += [f"| `{field.name}` | `{field.type}` |" for field in ERROR_SCHEMA]
    return "\n".join(lines) + "\n"


def errors() -> str:
    """The catalogue of errors."""
    lines = ["# Errors", "", MADE, ""]
    lines += ["Each is one line: what is wrong, where, what to do, and one of these codes.", ""]
    lines += ["| code | exit | cause | remedy |", "|---|---|---|---|"]
    found = sorted(_below(MtlError), key=lambda error: error.code)
    for error in found:
        cause = (error.__doc__ or "").splitlines()[0]
        lines.append(f"| `{error.code}` | {error.exit_code} | {cause} | {error.remedy} |")
    return "\n".join(lines) + "\n"


def _below(error: type[MtlError]) -> list[type[MtlError]]:
    return [each for sub in error.__subclasses__() for each in (sub, *_below(sub))]


PAGES = {"commands.md": commands, "schema.md": schema, "errors.md": errors}

if __name__ == "__main__":
    for name, page in PAGES.items():
        (FOLDER / name).write_text(page(), encoding="utf-8")
