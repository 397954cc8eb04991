"""Show some rows of a labelled output folder: ``python examples/show.py OUT``."""

import sys

import pyarrow.dataset as ds
from rich.console import Console
from rich.table import Table

ROWS = 12


def main(output: str) -> None:
    """Print a few sentences with their labels, and how to read the rest."""
    dataset = ds.dataset(output)
    wanted = ("", "_score", "_typicality")  # a model that was trained earlier gives no typicality
    columns = [f"{task}{part}" for task in ("topic", "sentiment") for part in wanted]
    there = [name for name in columns if name in dataset.schema.names]
    rows = dataset.head(ROWS, columns=["text", *there]).to_pylist()
    table = Table(title=f"{ROWS} rows of {output}")
    for name in ("sentence", "topic", "sentiment"):
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(row["text"], label(row, "topic"), label(row, "sentiment"))
    console = Console()
    console.print(table)
    if "topic_typicality" in there:
        print("Behind a label: its score, and how typical the text is of those it was trained on.")
    print(agreement(output))
    print(f"""The Parquet is in {output}/. Go on with any of:
  source .venv/bin/activate                        # so that mtl is found
  mtl show {output} --label Sports                 # more rows
  mtl report {output} -o report.html               # a page to look at in a browser
  python -c "import pandas; print(pandas.read_parquet('{output}'))"
README.md and docs/quickstart.md say what comes next.""")


def label(row: dict, task: str) -> str:
    """A task's label with its score and, if there is one, typicality."""
    numbers = (row[f"{task}_score"], row.get(f"{task}_typicality"))
    return " ".join([row[task], *(f"{number:.2f}" for number in numbers if number is not None)])


def agreement(output: str) -> str:
    """How many rows the model labels as their author did (column ``expected``)."""
    columns = ["kind", "expected", "topic", "sentiment"]
    rows = ds.dataset(output).to_table(columns=columns).to_pylist()
    counts = []
    for kind, task in (("headline", "topic"), ("review", "sentiment")):
        of_kind = [row for row in rows if row["kind"] == kind]
        right = sum(row[task] == row["expected"] for row in of_kind)
        counts.append(f"{task} of {right} of {len(of_kind)} {kind}s")
    return "As their author meant it: " + ", ".join(counts) + "."


if __name__ == "__main__":
    main(sys.argv[1])
