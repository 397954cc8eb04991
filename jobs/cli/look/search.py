"""``mtl search``."""

from collections.abc import Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import click
from rich.table import Table

from jobs.cli.shared import complete
from jobs.cli.shared.common import (
    generation_option,
    json_option,
    output_folder,
    print_json,
    where_option,
)
from jobs.cli.shared.plain import cell, plain, print_table, shortened
from jobs.output.layout import MANIFEST
from mtl_core.errors import InputError
from mtl_core.storage.address import local_path
from mtl_core.storage.folder import Folder

if TYPE_CHECKING:
    from jobs.vectors.search import Hit, Opened


@click.command()
@click.argument(
    "words",
    nargs=-1,
    required=True,
    metavar="JOB|OUT… TEXT",
    shell_complete=complete.jobs_or_folders,
)
@click.option("-k", "count", type=click.IntRange(1, 10_000), default=10, show_default=True,
              metavar="K", help="How many rows.")  # fmt: skip
@click.option(
    "--file",
    "file",
    metavar="QUERIES.txt",
    help="Search for each line of a file, instead of TEXT.",
    shell_complete=complete.files,
)
@click.option("--like", "row_id", type=int, metavar="ROW_ID",
              help="Search for rows like this one of the first OUT, instead of TEXT.")  # fmt: skip
@where_option
@generation_option
@click.option("--exact", is_flag=True, help="Look at every row, also where there is an index.")
@json_option
def search(
    words: tuple[str, ...],
    count: int,
    file: str | None,
    row_id: int | None,
    where: str | None,
    generation: int | None,
    exact: bool,
    as_json: bool,
) -> None:
    """Find the rows of outputs that are nearest to TEXT in meaning.

    TEXT is embedded by the model that made OUT; rows come with the cosine of their embedding and
    its. The words need not be the same. Every row is looked at; beyond a million rows, `mtl index`
    makes that quick.

    \b
    Examples:
      mtl search out/ "the film was far too long"
      mtl search out/ out2/ "shares fell" -k 5 --where "topic = 'Business'"
      mtl search out/ --like 17
      mtl search out/ --file queries.txt --json
    """
    outputs, texts = _asked(words, file, row_id)
    folders = [output_folder(job) for job in outputs]
    from jobs.vectors import search as searching

    with ExitStack() as stack:
        opened = [
            stack.enter_context(
                searching.open_output(
                    folder, exact=exact, hold=where is None, generation=generation
                )
            )
            for folder in folders
        ]
        for note in filter(None, (each.note for each in opened)):
            click.echo(note, err=True)
        without = None
        if row_id is None:
            queries = searching.embed_texts(opened, texts)
        else:
            searching.require_one_encoder(opened)
            queries, without = searching.like(opened[0], row_id), (str(folders[0]), row_id)
        found = searching.search(opened, queries, count, where, without)
        _say(opened, texts or [f"like row {row_id}"], found, as_json=as_json)


def _asked(
    words: tuple[str, ...], file: str | None, row_id: int | None
) -> tuple[Sequence[str], Sequence[str]]:
    """The outputs, and the texts to search for."""
    if file is not None and row_id is not None:
        raise click.UsageError("give --file or --like, not both")
    if row_id is not None:
        return words, []
    if file is not None:
        return words, _lines(file)
    *outputs, text = words
    if not outputs:
        raise click.UsageError(f'give an output and a text: mtl search {text} "what to find"')
    if Folder(local_path(text)).has(MANIFEST):
        raise click.UsageError(f"{text} is an output; the text to search for comes last")
    if not text.strip():
        raise click.UsageError("the text to search for is empty")
    return outputs, [text]


def _lines(file: str) -> list[str]:
    path = local_path(file)
    try:
        lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "no UTF-8 text"
        raise InputError(f"--file {path}: cannot be read ({reason})") from error
    if not lines:
        raise InputError(f"--file {path}: holds no line to search for")
    return lines


def _say(
    opened: Sequence["Opened"],
    texts: Sequence[str],
    found: Sequence[Sequence["Hit"]],
    *,
    as_json: bool,
) -> None:
    if as_json:
        rows = [[_jsonable(hit.as_json()) for hit in some] for some in found]
        print_json([{"query": q, "hits": h} for q, h in zip(texts, rows, strict=True)])
        return
    for text, hits in zip(texts, found, strict=True):
        if len(texts) > 1:
            click.echo(f"{plain(text)}:")
        if hits:
            print_table(_table(opened, hits), width=160)
        else:
            click.echo("no row is found: none meets the condition, or the output is empty")


def _jsonable(value: Any) -> Any:
    """A value as JSON can hold it; dates and the like as text."""
    if isinstance(value, dict):
        return {name: _jsonable(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_jsonable(each) for each in value]
    return value if isinstance(value, str | int | float | None) else str(value)


def _table(opened: Sequence["Opened"], hits: Sequence["Hit"]) -> Table:
    """Cosine, labels with their scores, the user's own columns, and the text."""
    manifest = opened[0].manifest
    tasks = list(manifest.model.tasks)
    made = {"row_id", "truncated", *tasks, *manifest.text_columns, manifest.text_column}
    made |= {f"{task}_{what}" for task in tasks for what in ("score", "typicality", "top")}
    own = [name for name in hits[0].values if name not in made]
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("cosine", justify="right")
    if len(opened) > 1:
        table.add_column("output", overflow="fold")
    table.add_column("row_id", justify="right")
    for name in (*tasks, *own, "text"):
        table.add_column(cell(name), overflow="fold")
    for hit in hits:
        values = hit.values
        labels = [f"{values.get(t) or '(none)'} {values.get(f'{t}_score', 0):.2f}" for t in tasks]
        text = shortened(str(values.get(opened[0].manifest.text_column, "")))
        shown = [f"{hit.cosine:.3f}", *([hit.output] if len(opened) > 1 else []), values["row_id"]]
        shown += [*labels, *(values.get(name, "") for name in own), text]
        table.add_row(*map(cell, shown))
    return table
