"""``mtl embed``."""

from collections.abc import Mapping
from typing import Any

import click

from jobs.cli.shared import complete
from jobs.cli.shared.common import json_option, print_json
from jobs.cli.shared.plain import plain
from jobs.settings import settings
from mtl_core.model.registry import DEFAULT_MODEL, find_model


@click.command()
@click.argument("texts", nargs=-1, required=True, metavar="TEXT…")
@click.option(
    "--model",
    default=DEFAULT_MODEL,
    show_default=True,
    help="A name, see `mtl models`.",
    shell_complete=complete.models,
)
@json_option
def embed(texts: tuple[str, ...], model: str, as_json: bool) -> None:
    """Print the embedding of each TEXT, its labels, and the cosines between the texts.

    \b
    Example:
      mtl embed "A dull film." "A boring movie." "Shares fell."
    """
    entry = find_model(model, settings().models, settings().model_copies)
    from mtl_core.model.network import load_model

    loaded = load_model(entry.folder).model
    vectors, answers = loaded.encode(texts), loaded.predict(texts)
    cosines = vectors @ vectors.T
    if as_json:
        print_json(
            [
                {"text": text, **answer, "embedding": [round(float(x), 6) for x in vector]}
                for text, answer, vector in zip(texts, answers, vectors, strict=True)
            ]
        )
        return
    for number, (text, answer, vector) in enumerate(zip(texts, answers, vectors, strict=True), 1):
        labels = ", ".join(_label(answer, task.name) for task in loaded.config.tasks)
        numbers = " ".join(f"{value:+.3f}" for value in vector[:8])
        click.echo(f"{number}. {plain(text)}\n   {labels}\n   [{numbers} …] {len(vector)} numbers")
    if len(texts) > 1:
        click.echo("cosines:")
        for row in cosines:
            click.echo("   " + " ".join(f"{value:+.3f}" for value in row))


def _label(answer: Mapping[str, Any], task: str) -> str:
    typical = answer.get(f"{task}_typicality")
    fits = f", typicality {typical:.2f}" if typical is not None else ""
    return f"{answer[task]} ({answer[f'{task}_score']:.2f}{fits})"
