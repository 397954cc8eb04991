"""An index beside the parts, for outputs too large to be scanned at every search.

Each file of it holds the codes of about a million rows: lists of rows around centroids (IVF, Jégou
et al. 2011) that all files share, a byte a number. Files are made one after another and mapped into
memory when they are searched, so that neither needs memory for all rows.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from jobs.output.indexed import (
    RECORD,
    IndexedPart,
    IndexFile,
    IndexRecord,
    misfit,
    modified_ns,
    read_index,
)
from jobs.output.layout import INDEX
from jobs.output.manifest import Manifest
from jobs.vectors.blocks import Block, Stretch, blocks_of, require_embeddings, stretches
from mtl_core.cores import available_cores
from mtl_core.errors import InputError, SettingsError
from mtl_core.files import file_sha256
from mtl_core.storage.place import Place

if TYPE_CHECKING:
    import faiss

FILE_ROWS = 2**20
"""Rows in a file of the index, from which on the next is begun."""
LISTS = 512
"""Lists in a file; fewer where it has few rows."""
PROBED = 1 / 12
"""Share of the lists that a search reads."""
SAMPLE = 64
"""Rows a list that the centroids are fitted on."""
SAMPLED_PARTS = 64
AHEAD = 4
"""Parts read while others are indexed."""


def faiss_or_error() -> Any:
    """The library that makes and searches indexes.

    Raises:
        SettingsError: it is not installed.
    """
    try:
        import faiss
    except ImportError as error:
        raise SettingsError(
            "an index needs faiss; install it by `pip install 'mtl-batch[search]'`"
        ) from error
    faiss.omp_set_num_threads(available_cores())
    return faiss


def build_index(
    output: Place, manifest: Manifest, progress: Callable[[int], None] = lambda rows: None
) -> tuple[IndexRecord, bool]:
    """Make an output's index, unless it has one that fits.

    Args:
        progress: called with the number of rows indexed so far.
    Returns:
        its record, and whether it was made now.
    Raises:
        InputError: the output holds no rows or no embeddings, or a part has gone or changed.
        SettingsError: faiss is not installed.
    """
    require_embeddings(output, manifest)
    there = read_index(output)
    if there is not None and not misfit(output, manifest, there):
        return there, False
    faiss_or_error()
    parts = stretches(manifest)
    if not parts:
        raise InputError(f"{output} holds no labelled row")
    indexed = _parts(output, manifest)
    groups = list(_groups(parts))
    rows = max(sum(part.rows for part in group) for group in groups)
    lists = max(1, min(LISTS, rows // SAMPLE))
    kind = f"IVF{lists},{'SQ4' if manifest.embedding == 'binary' else 'SQ8'}"
    trained = _trained(output, manifest, parts, kind, lists)
    files = []
    for group in groups:
        files.append(_write(output, manifest, trained, group, _name(indexed, group), progress))
    record = IndexRecord(
        kind=kind,
        probed=max(min(lists, 8), round(lists * PROBED)),
        parts=indexed,
        files=tuple(files),
        software={"faiss": _version()},
    )
    output.write_json(RECORD, record.as_json())
    if there is not None:  # of an earlier index; its record says that they are ours
        now = {file.file for file in files}
        own = (file.file for file in there.files if file.file.startswith(f"{INDEX}/files-"))
        output.delete(*(name for name in own if name not in now))
    return record, True


def _parts(output: Place, manifest: Manifest) -> tuple[IndexedPart, ...]:
    """The parts as they are, each checked to be what its job wrote."""
    found = []
    for part in manifest.parts:
        try:
            modified = modified_ns(output, part.part)
            with output.reading(part.part) as path:
                if file_sha256(path) != part.sha256:
                    raise InputError(
                        f"{output.at(part.part)} has changed since its job wrote it "
                        "(checksum differs)"
                    )
        except FileNotFoundError as error:
            raise InputError(
                f"{output.at(part.part)} is missing; label again into a new folder"
            ) from error
        found.append(
            IndexedPart(part=part.part, rows=part.rows, sha256=part.sha256, modified_ns=modified)
        )
    return tuple(found)


def _groups(parts: Sequence[Stretch]) -> Iterator[list[Stretch]]:
    """Parts whose rows go into one file."""
    group: list[Stretch] = []
    for part in parts:
        group.append(part)
        if sum(each.rows for each in group) >= FILE_ROWS:
            yield group
            group = []
    if group:
        yield group


def _name(indexed: Sequence[IndexedPart], group: Sequence[Stretch]) -> str:
    """Name of a file; of other parts it is another."""
    digest = hashlib.sha256("".join(part.sha256 for part in indexed).encode()).hexdigest()[:8]
    return f"{INDEX}/files-{digest}-{group[0].first:012d}.faiss"


def _trained(
    output: Place, manifest: Manifest, parts: Sequence[Stretch], kind: str, lists: int
) -> "faiss.Index":
    """An empty index whose centroids and ranges are fitted on rows of parts from all over."""
    import faiss

    some = parts[:: -(-len(parts) // SAMPLED_PARTS)]
    each, draw = -(-SAMPLE * lists // len(some)), np.random.default_rng(0)
    drawn: list[NDArray[np.float32]] = []
    for part in some:
        blocks = [block.vectors for block in blocks_of(output, manifest, part)]
        vectors = np.concatenate(blocks)
        drawn.append(vectors[draw.permutation(len(vectors))[:each]])
    sample = np.concatenate(drawn)
    index = faiss.index_factory(sample.shape[1], kind, faiss.METRIC_INNER_PRODUCT)
    index.cp.min_points_per_centroid = 1  # else faiss warns of few rows on standard error
    index.train(sample)
    return index


def _write(
    output: Place,
    manifest: Manifest,
    trained: "faiss.Index",
    group: Sequence[Stretch],
    name: str,
    progress: Callable[[int], None],
) -> IndexFile:
    import faiss

    index = faiss.clone_index(trained)
    for block in _ahead(partial(blocks_of, output, manifest), group):
        index.add_with_ids(block.vectors, block.rows)
        progress(group[0].first + index.ntotal)
    with output.writing(name) as path:
        faiss.write_index(index, str(path))
        return IndexFile(
            file=name, rows=index.ntotal, bytes=path.stat().st_size, sha256=file_sha256(path)
        )


def _ahead(read: Callable[[Stretch], Iterator[Block]], parts: Sequence[Stretch]) -> Iterator[Block]:
    """The blocks of parts, of which a few are read while others are used."""
    with ThreadPoolExecutor(1) as pool:
        waiting: list[Future[list[Block]]] = []
        for part in parts:
            waiting.append(pool.submit(lambda p: list(read(p)), part))
            if len(waiting) > AHEAD:
                yield from waiting.pop(0).result()
        for future in waiting:
            yield from future.result()


def _version() -> str:
    import faiss

    return str(faiss.__version__)
