"""``_README.md`` of an output: in three lines what it is, its columns, and how to read it."""

from pathlib import Path

from jobs.output.manifest import Manifest


def readme(manifest: Manifest) -> str:
    """The text of ``_README.md``."""
    rows = manifest.rows
    columns = ", ".join(
        f"`{column.name}` {'string' if 'dictionary' in column.type else column.type}"
        for column in manifest.columns
    )
    return (
        f"{rows.labelled:,} of {rows.total:,} rows of {_inputs(manifest)}, labelled by "
        f"mtl-batch job {manifest.job} with model '{manifest.model.name}' on {manifest.finished}; "
        f"{rows.errors:,} rows could not be labelled and are in errors/ with their reasons."
        f"{_generations(manifest)}\n\n"
        f"Columns: {columns}.\n\n"
        "Read: `duckdb -c \"FROM 'part-*.parquet' LIMIT 10\"`, `pandas.read_parquet(FOLDER)`, "
        "`polars.read_parquet('FOLDER/part-*.parquet')`.\n"
    )


def _generations(manifest: Manifest) -> str:
    if not manifest.generations:
        return ""
    last = manifest.generations[-1]
    return (
        f" In {len(manifest.generations)} generations; the last was appended by job {last.job}, "
        f"rows from {last.first_row_id}."
    )


def _inputs(manifest: Manifest) -> str:
    if manifest.relabels and not manifest.generations:
        return manifest.relabels
    names = [Path(file.path).name for file in manifest.inputs]
    more = f" and {len(names) - 3} more files" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more
