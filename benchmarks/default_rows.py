"""The further rows that the shipped models were trained on, drawn from a data folder.

``python benchmarks/default_rows.py DATA OUT``

Writes ``sentiment_added``, ``topic_added``, ``neutral_phrases`` (``.parquet``) into the folder OUT,
the same at each call, for ``mtl train --add`` and ``--unlabelled`` (docs/training.md).
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

SEED = 2
# File, rows drawn at most, words at most in a text.
PARTS = (
    ("rt_critics", 25_000, 60),
    ("yelp_short", 14_000, 100),
    ("semeval_tweets", 13_000, 100),
    ("amazon_multidomain", 7_000, 100),
    ("amazon_yelp_reviews", 4_000, 100),
    ("amazon_short", 1_999, 100),
    ("imdb_train", 5_000, 150),
)
NEITHER = ("2.5/4", "3/5", "2.5/5", "C", "C+", "B-", "5/10", "6/10", "2/4")
"""Critics' ratings that say neither good nor bad."""


def main() -> None:
    """Write the three files."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    given = parser.parse_args()
    generator, parts = np.random.default_rng(SEED), []
    for name, most, words in PARTS:
        table = pd.read_parquet(given.data / f"sentiment_extra/{name}.parquet")
        if name == "rt_critics":
            table = table[~table.rating.isin(NEITHER)]
        table = table[table.sentence.str.split().str.len() <= words]
        drawn = generator.choice(len(table), min(most, len(table)), replace=False)
        parts.append(table.iloc[np.sort(drawn)][["sentence", "label"]])
    given.out.mkdir(parents=True, exist_ok=True)
    sentiment = pd.concat(parts).rename(columns={"sentence": "text", "label": "sentiment"})
    topic = pd.read_parquet(given.data / "ag_news/train_no_title.parquet")[["text", "label"]]
    neutral = pd.read_parquet(given.data / "sst2/neutral_phrases.parquet")[["sentence"]]
    for name, table in (
        ("sentiment_added", sentiment),
        ("topic_added", topic.rename(columns={"label": "topic"})),
        ("neutral_phrases", neutral.rename(columns={"sentence": "text"})),
    ):
        table.to_parquet(given.out / f"{name}.parquet", index=False)
        print(f"{name}.parquet: {len(table):,} rows")


if __name__ == "__main__":
    main()
