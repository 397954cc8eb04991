"""``mtl export``."""

import click

from jobs import interrupt
from jobs.cli import complete
from jobs.settings import settings
from jobs.targets import check_outside_outputs
from mtl_core.place import local_path
from mtl_core.registry import find_model


@click.command()
@click.argument("model", shell_complete=complete.models)
@click.option(
    "--format",
    "form",
    required=True,
    type=click.Choice(["sentence-transformers", "onnx", "openvino"]),
    help="For whom.",
)
@click.option(
    "-o",
    "--output",
    required=True,
    metavar="DIR",
    help="A new folder.",
    shell_complete=complete.files,
)
def export(model: str, form: str, output: str) -> None:
    """Write a model in another format.

    sentence-transformers gets the embedding; onnx and openvino one graph from token ids to the
    embedding and each task's calibrated probabilities, with labels.json and tokenizer.json.

    \b
    Example:
      mtl export default --format sentence-transformers -o exported/
    """
    entry = find_model(model, settings().models, settings().model_copies)
    folder = local_path(output)
    check_outside_outputs(folder)
    from mtl_core.checkpoint import load_model
    from mtl_core.export import export_model

    with interrupt.unwinding():
        export_model(load_model(entry.folder), form, folder)
    click.echo(f"{entry.name} for {form}: {folder}")
