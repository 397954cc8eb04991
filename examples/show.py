"""Show some rows of a labelled output folder: ``python examples/show.py OUT``."""

import sys

import pyarrow.dataset as ds
from rich.console import Console
from rich.table import Table

ROWS = 12


def main(output: str) -> None:
    """Print a few sentences with their labels, and how to read the rest."""
    columns = ["text", "topic", "topic_score", "sentiment", "sentiment_score"]
    rows = ds.dataset(output).head(ROWS, columns=columns).to_pylist()
    table = Table(title=f"{ROWS} rows of {output}")
    for name in ("sentence", "topic", "sentiment"):
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(
            row["text"],
            f"{row['topic']} {row['topic_score']:.2f}",
            f"{row['sentiment']} {row['sentiment_score']:.2f}",
        )
    console = Console()
    console.print(table)
    print(agreement(output))
    print(f"""The Parquet is in {output}/. Go on with any of:
  source .venv/bin/activate                        # so that mtl is found
  mtl show {output} --label Sports                 # more rows
  mtl report {output} -o report.html               # a page to look at in a browser
  python -c "import pandas; print(pandas.read_parquet('{output}'))"
README.md and docs/quickstart.md say what comes next.""")


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
