"""Search finished outputs by meaning: the rows whose embeddings are nearest to a text's.

::

    from jobs.vectors.search import embed_texts, open_output, search

    with open_output("out/") as out:
        for hit in search([out], embed_texts([out], ["shares fell"]), k=5)[0]:
            print(hit.cosine, hit.values["text"])
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jobs.output.indexed import misfit, read_index
from jobs.output.layout import read_manifest, require_finished
from jobs.output.manifest import Manifest
from jobs.output.rows import condition_of
from jobs.settings import Settings, settings
from jobs.vectors.blocks import Held, require_embeddings, rows_where
from jobs.vectors.fetch import FoundRow, fetch, number_of
from jobs.vectors.indexed_search import OpenIndex
from jobs.vectors.query import embed, maker_of
from jobs.vectors.scan import Nearest, nearest, scan
from mtl_core.errors import InputError, SettingsError
from mtl_core.storage.address import place_of
from mtl_core.storage.parquet import ROW_ID
from mtl_core.storage.place import Place

SCANNED_ROWS = 2**20
"""Up to so many rows are scanned without a word, and kept in memory (1 GiB where E is 256)."""
SPARE = 2
"""Rows asked of an index for each row wanted; the stored embeddings then say which are nearest."""


@dataclass(frozen=True)
class Opened:
    """An output that can be searched."""

    output: Place
    manifest: Manifest
    index: OpenIndex | None
    held: Held | None
    """Its embeddings in memory; None: they are read anew by each search."""
    note: str
    """What the user should know of how it is searched; mostly empty."""


@dataclass(frozen=True)
class Hit:
    """A row found."""

    output: str
    """The path or address of its output."""
    cosine: float
    values: dict[str, Any]
    """By column, all but the embedding: ``row_id``, the user's own, labels, scores."""

    def as_json(self) -> dict[str, Any]:
        """The public JSON of ``mtl search --json``."""
        return {"output": self.output, "cosine": round(self.cosine, 6), "row": self.values}


@contextmanager
def open_output(
    where: str | Place, *, exact: bool = False, hold: bool = True, generation: int | None = None
) -> Iterator[Opened]:
    """Open a finished output for any number of searches.

    Args:
        where: its folder or address.
        exact: look at every row, also where there is an index.
        hold: keep the embeddings of an output that is searched without an index in memory, as
            float32, if it has no more than :data:`SCANNED_ROWS` rows; a second search is quicker.
        generation: search this one alone; its rows are looked at one by one.
    Raises:
        InputError: it is no finished output, or holds no embeddings.
    """
    output = place_of(where) if isinstance(where, str) else where
    require_finished(output)
    manifest = read_manifest(output, generation)
    require_embeddings(output, manifest)
    exact = exact or generation is not None  # an index is of all
    with ExitStack() as stack:
        index, note = (None, "") if exact else _index(output, manifest, stack)
        small = sum(part.rows for part in manifest.parts) <= SCANNED_ROWS
        held = Held(output, manifest) if hold and small and index is None else None
        if held is not None:
            stack.callback(held.close)
        if not (note or small or index or exact):
            note = f"{output}: every row is looked at; `mtl index {output}` makes it quicker"
        yield Opened(output, manifest, index, held, note)


def _index(output: Place, manifest: Manifest, stack: ExitStack) -> tuple[OpenIndex | None, str]:
    record = read_index(output)
    if record is None:
        return None, ""
    reason = misfit(output, manifest, record)
    try:
        if not reason:
            return OpenIndex(output, record, stack), ""
    except SettingsError as error:
        return None, f"{output}: its index is not used: {error}"
    again = f"`mtl index {output}` makes it anew"
    return None, f"{output}: its index is not used: {reason}; {again}"


def embed_texts(
    outputs: Sequence[Opened], texts: Sequence[str], config: Settings | None = None
) -> NDArray[np.float32]:
    """Embed texts by the model that made the outputs; unit vectors, float32 [Q, E].

    Raises:
        InputError: the outputs' embeddings are of several encoders.
        ModelError: the model is not on this machine any more.
    """
    config = config or settings()
    require_one_encoder(outputs, config)
    return embed(outputs[0].manifest, texts, config)


def require_one_encoder(outputs: Sequence[Opened], config: Settings | None = None) -> None:
    """Raise InputError unless the outputs' embeddings can be compared.

    Raises:
        ModelError: a model is not on this machine any more.
    """
    if len({each.manifest.model.sha256 for each in outputs}) < 2:
        return
    from mtl_core.model.identity import encoder_sha256

    config = config or settings()
    encoders = [encoder_sha256(maker_of(each.manifest, config)) for each in outputs]
    for each, encoder in zip(outputs, encoders, strict=True):
        if encoder != encoders[0]:
            raise InputError(
                f"{each.output} has embeddings of another encoder than {outputs[0].output} "
                f"('{each.manifest.model.name}', '{outputs[0].manifest.model.name}'); search them "
                "one at a time"
            )


def like(out: Opened, row_id: int) -> NDArray[np.float32]:
    """The embedding of a row, as a query: a unit vector, float32 [1, E].

    Raises:
        InputError: no labelled row has that ``row_id``.
    """
    number = number_of(out.output, out.manifest, row_id)
    return fetch(out.output, out.manifest, np.array([number]))[number].vector[None]


def search(
    outputs: Sequence[Opened],
    queries: NDArray[np.float32],
    k: int = 10,
    where: str | None = None,
    without: tuple[str, int] | None = None,
) -> list[list[Hit]]:
    """The nearest rows of all outputs together, for each query, nearest first.

    Args:
        queries: unit vectors, float32 [Q, E], of :func:`embed_texts` or :func:`like`.
        where: among rows that meet this condition, as ``--where`` of the commands.
        without: an output and the ``row_id`` of a row to leave out.
    Returns:
        at most ``k`` rows a query; their cosines are those of the embeddings as they are stored.
    Raises:
        InputError: a part has gone, or the condition cannot be read or does not fit the columns.
    """
    found: list[list[Hit]] = [[] for _ in queries]
    most = k + (without is not None)
    for each in outputs:
        near = _nearest(each, queries, most, where)
        rows = fetch(each.output, each.manifest, near.rows)
        for query, hits, numbers in zip(queries, found, near.rows, strict=True):
            hits += [_hit(each, rows[number], query) for number in numbers.tolist()]
    for hits in found:
        hits[:] = [h for h in hits if (h.output, h.values[ROW_ID]) != without]
        hits.sort(key=lambda hit: -hit.cosine)
        del hits[k:]
    return found


def _nearest(out: Opened, queries: NDArray[np.float32], most: int, where: str | None) -> Nearest:
    condition = condition_of(out.output, out.manifest, where)
    if out.index is not None:
        mask = rows_where(out.output, out.manifest, condition) if condition else None
        return out.index.nearest(queries, SPARE * most, mask)
    if out.held is not None and condition is None:
        blocks = list(out.held.blocks())  # BLAS would keep the threads that read from their cores
        return nearest(blocks, queries, most)
    return scan(out.output, out.manifest, queries, most, condition)


def _hit(out: Opened, row: FoundRow, query: NDArray[np.float32]) -> Hit:
    return Hit(str(out.output), float(row.vector @ query), dict(row.values))
