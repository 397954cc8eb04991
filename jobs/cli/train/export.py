"""``mtl export``."""

import click

from jobs import interrupt
from jobs.cli.shared import complete
from jobs.cli.shared.common import output_option
from jobs.output.targets import check_outside_outputs
from jobs.settings import settings
from mtl_core.model.registry import find_model
from mtl_core.storage.address import local_path


@click.command()
@click.argument("model", shell_complete=complete.models)
@click.option(
    "--format",
    "form",
    required=True,
    type=click.Choice(["sentence-transformers", "onnx", "openvino"]),
    help="For whom.",
)
@output_option("DIR", "A new folder.")
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
    from mtl_core.engine.export import export_model
    from mtl_core.model.network import load_model

    with interrupt.unwinding():
        export_model(load_model(entry.folder), form, folder)
    click.echo(f"{entry.name} for {form}: {folder}")
