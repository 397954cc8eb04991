"""``mtl index``."""

import sys

import click

from jobs import interrupt
from jobs.cli.shared.common import finished_argument, json_option, output_folder, print_json
from jobs.output.layout import INDEX, read_manifest, require_finished
from mtl_core.errors import OutputError, StoreError


@click.command()
@finished_argument
@json_option
def index(job: str, as_json: bool) -> None:
    """Make an index beside an output's parts, with which `mtl search` is quick on many rows.

    Up to a million rows none is needed. It takes some 264 bytes a row in OUT/_index, which readers
    of OUT pass over; `mtl verify` checks it, and `mtl search` does not use it once the parts
    change. Needs faiss: pip install 'mtl-batch[search]'.

    \b
    Example:
      mtl index out/
    """
    from jobs.vectors.index import build_index

    require_finished(folder := output_folder(job))
    manifest = read_manifest(folder)
    rows = sum(part.rows for part in manifest.parts)
    quiet = not sys.stderr.isatty()
    try:
        with (
            interrupt.unwinding(),
            click.progressbar(length=rows, label="indexed", file=sys.stderr, hidden=quiet) as bar,
        ):
            record, new = build_index(folder, manifest, lambda done: bar.update(done - bar.pos))
    except StoreError:
        raise
    except OSError as error:
        raise OutputError(
            f"{folder.at(INDEX)} cannot be written ({error.strerror}); mend that"
        ) from error
    size = sum(file.bytes for file in record.files)
    if as_json:
        print_json({"new": new, "rows": rows, "bytes": size, "kind": record.kind})
        return
    made = "" if new else ", made before and still right"
    click.echo(f"{folder.at('_index')}: {rows:,} rows, {size:,} bytes{made}")
