"""The sentence pairs of STS-B's validation split, to measure how well embeddings compare texts."""

from dataclasses import dataclass
from pathlib import Path

from mtl_core.data.splits import read_columns
from mtl_core.pulse import Pulse, no_pulse, with_pulse

STSB_FOLDER = "stsb"
STSB_HUB_NAME = "sentence-transformers/stsb"
STSB_SPLIT = "validation"
COLUMNS = ["sentence1", "sentence2", "score"]


@dataclass(frozen=True)
class Pairs:
    """N pairs of sentences and how alike people found them."""

    first: list[str]
    second: list[str]
    scores: list[float]

    @property
    def texts(self) -> list[str]:
        """All first sentences, then all second ones."""
        return [*self.first, *self.second]


def load_pairs(
    data_dir: Path | None, *, ask_hub: bool = True, pulse: Pulse = no_pulse
) -> Pairs | None:
    """Load the pairs; None if they are not available.

    Args:
        data_dir: the data folder; if it is given, the hub is not asked.
        ask_hub: whether the hub may be asked at all.
    Raises:
        DataError: the data folder's file cannot be read.
    """
    if data_dir is not None:
        path = Path(data_dir) / STSB_FOLDER / f"{STSB_SPLIT}.parquet"
        if not path.is_file():
            return None
        pulse()
        table = read_columns(path, COLUMNS)
        return Pairs(*(table.column(name).to_pylist() for name in COLUMNS))
    if not ask_hub:
        return None
    import datasets

    datasets.disable_progress_bars()
    try:
        found = with_pulse(pulse, lambda: datasets.load_dataset(STSB_HUB_NAME, split=STSB_SPLIT))
    except Exception:  # without the hub the figure is left out; the run goes on
        pulse()  # if the pulse ended the call, it raises its exception again
        return None
    return Pairs(*(list(found[name]) for name in COLUMNS))
