"""Planning a label job: its input is read as a stream, cut into shards, and bad rows are set aside.

Memory does not grow with the input.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from types import TracebackType

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from jobs.input.source import NumberedChunk, Source
from jobs.label.columns import conform
from jobs.label.request import LabelJob
from jobs.label.staging import stage_shard, valid
from jobs.ledger.ledger import JobClosed, Ledger
from jobs.ledger.lifecycle import PLANNABLE
from jobs.ledger.messages import Publisher
from jobs.ledger.presence import Presence
from jobs.output.layout import ERRORS, INPUT_ERRORS, mark, read_manifest
from jobs.output.rows import opened
from jobs.specs import LabelSpec
from mtl_core.errors import InputError
from mtl_core.storage.address import place_of
from mtl_core.storage.parquet import ERROR_SCHEMA
from mtl_core.storage.place import Place

# English text has about 4 characters a token (AG News: 236 characters, 54 tokens); two more for
# the special tokens. Only the size of shards depends on it.
CHARACTERS_PER_TOKEN = 4
SPECIAL_TOKENS = 2
# A job begins with a small shard, so that the first labels come soon and many workers have work
# at once. Each next one is at most so many times as large: twice, and less where workers are
# fast, since preparing takes a good part of the time there that labelling does: a next shard of
# twice the rows would not be ready in time.
FIRST_SHARD_ROWS = 512
STEP, FAST_STEP = 2.0, 1.5
# How long a shard may take the fastest and the slowest child, in seconds. With the slowest of two
# bounds the tail of a job is short, with the fastest one a GPU is not fed in bits of 20 ms.
FASTEST_S, SLOWEST_S = 2.0, 60.0
# A worker holds three shards in memory; 131,072 rows have embeddings of 134 MB.
MOST_ROWS, MOST_TOKENS = 131_072, 8_388_608


def plan(
    ledger: Ledger, publisher: Publisher, job: LabelJob, keep_alive: Callable[[], None]
) -> bool:
    """Stage the rows of every shard; as each is ready, add it to the ledger and send its hint.

    Planning again after an interruption makes the same shards. Those that are in the ledger already
    are left as they are there.

    Args:
        keep_alive: called for every chunk of rows read.
    Returns:
        whether the ledger has all of the shards; if not, Redis has lost some meanwhile.
    Raises:
        InputError: the input holds no row at all, or a file is damaged.
        JobClosed: the job was cancelled or paused meanwhile.
        JobError: the job was forgotten meanwhile.
    """
    output, cutter = job.output, ShardCutter(job.spec, job.source, growth(ledger, job))
    errors = ErrorFile(output, f"{ERRORS}/{INPUT_ERRORS}", job.id)
    rows_total = rows_bad = 0
    priority = ledger.snapshot(job.id).priority
    with ThreadPoolExecutor(output.transfers) as pool, errors:

        def send(tables: Iterator[pa.Table]) -> None:
            named = [(cutter.number(), table) for table in tables]
            # A store takes a while to answer, so several shards go at a time.
            shards = dict(pool.map(lambda shard: stage_shard(output, *shard), named))
            publisher.shards("label", priority, job.id, ledger.add_shards(job.id, shards))

        for numbered in job.rows():
            keep_alive()
            if ledger.state(job.id) not in PLANNABLE:
                raise JobClosed(job.id)
            errors.write(_error_table(numbered))
            rows_bad += len(numbered.chunk.bad)
            rows_total += len(numbered.row_ids) + len(numbered.chunk.bad)
            # Before its shards, each time: a Redis that has taken over since may not have it.
            ledger.update(job.id, growth=cutter.growth)
            send(cutter.add(numbered))
            ledger.update(job.id, rows_total=rows_total, rows_bad=rows_bad)
        for aside in earlier_errors(job.spec):
            errors.write(aside)
            rows_bad, rows_total = rows_bad + len(aside), rows_total + len(aside)
            ledger.update(job.id, rows_total=rows_total, rows_bad=rows_bad)
        if rows_total == 0:
            raise InputError(f"{', '.join(file.name for file in job.source.files)}: no rows")
        send(cutter.rest())
    # Once more: a Redis that has taken over since may know an earlier count.
    ledger.update(job.id, rows_total=rows_total, rows_bad=rows_bad)
    return ledger.close_plan(job.id, cutter.cut, rows_total - rows_bad)


def growth(ledger: Ledger, job: LabelJob) -> float:
    """How many times as large as usual the job's shards may be, by how fast its workers are.

    It is decided once: planning again must make the same shards.
    """
    kept = ledger.growth(job.id)
    if kept is None:
        # Shards that are there were cut by an earlier version, at the usual size.
        grow = job.spec.grow and not ledger.snapshot(job.id).shards.total
        kept = growth_for(Presence(ledger.redis).rates(), job.spec) if grow else 1.0
        ledger.update(job.id, growth=kept)
    return kept


def growth_for(rates: Sequence[float], spec: LabelSpec) -> float:
    """A shard takes the fastest child some seconds, and the slowest not much more than a minute.

    Args:
        rates: tokens a second of the children.
    """
    if not rates:
        return 1.0
    tokens = min(FASTEST_S * max(rates), SLOWEST_S * min(rates))
    return round(min(max(tokens, spec.shard_tokens), MOST_TOKENS) / spec.shard_tokens, 3)


def earlier_errors(spec: LabelSpec) -> Iterator[pa.Table]:
    """The rows in ``errors/`` of the output that is labelled anew, if the job labels one.

    They are taken over as they are: so each ``row_id`` of that output is in this one, too.

    Raises:
        InputError: a file of them has gone.
    """
    if not spec.relabels:
        return
    output = place_of(spec.relabels)
    for entry in read_manifest(output).errors:
        with opened(output, entry.file) as file:
            yield file.read(ERROR_SCHEMA.names).cast(ERROR_SCHEMA)


class ShardCutter:
    """Gathers rows, and cuts a shard whenever it has enough rows or estimated tokens."""

    def __init__(self, spec: LabelSpec, source: Source, growth: float = 1.0) -> None:
        self.growth = growth
        self._step = STEP if growth == 1 else FAST_STEP
        self.tokens = int(spec.shard_tokens * growth)
        self._most_rows = max(spec.shard_rows, min(int(spec.shard_rows * growth), MOST_ROWS))
        # int8 is calibrated on the first shard: the more rows it has, the better.
        first = int(FIRST_SHARD_ROWS * growth)
        self._first_rows = spec.shard_rows if spec.precision == "int8" else first
        self.source = source
        self.text_column = source.text_column
        self._pending: list[pa.Table] = []
        self._pending_rows = self._pending_tokens = 0
        self._count = self.cut = 0

    @property
    def rows(self) -> int:
        """The most rows that the shard being gathered may have."""
        steps = min(self.cut, 2 * self._most_rows.bit_length())
        return min(self._most_rows, int(self._first_rows * self._step**steps))

    def number(self) -> str:
        """Take the next shard's name: ``00000``, ``00001``, …"""
        self._count += 1
        return f"{self._count - 1:05d}"

    def add(self, numbered: NumberedChunk) -> Iterator[pa.Table]:
        """Take in a chunk's good rows; yields each shard that they fill."""
        table = conform(self.source, numbered)
        lengths = pc.utf8_length(table.column(self.text_column).cast(pa.large_string()))
        tokens = lengths.to_numpy() // CHARACTERS_PER_TOKEN + SPECIAL_TOKENS
        # before[n]: the tokens of the chunk before its row n; the last entry counts all of them.
        # begin, spent: at which row the shard being gathered begins, and the tokens before that
        # row. Both are negative where the shard began in an earlier chunk.
        before = np.concatenate(([0], np.cumsum(tokens)))
        begin, spent = -self._pending_rows, -self._pending_tokens
        start = 0
        while (end := self._end(before, begin, spent)) is not None:
            self._pending.append(table.slice(start, end - start))
            yield from self.rest()
            start = begin = end
            spent = int(before[end])
        if start < len(table):
            self._pending.append(table.slice(start))
        self._pending_rows, self._pending_tokens = len(table) - begin, int(before[-1]) - spent

    def _end(self, before: NDArray[np.int64], begin: int, spent: int) -> int | None:
        """The row before which the gathered shard ends; None where it has room for more rows.

        Args:
            before: tokens before each row of the chunk and before its end, [N + 1].
            begin: the shard's first row, negative where that is in an earlier chunk.
            spent: the tokens before that row, negative likewise.
        """
        rows, most = len(before) - 1, begin + self.rows
        by_tokens = int(np.searchsorted(before, spent + self.tokens, side="right")) - 1
        # A single text that is over the budget is a shard of its own.
        end = min(max(by_tokens, begin + 1), most)
        return end if end < rows or end == most == rows else None

    def rest(self) -> Iterator[pa.Table]:
        """Yield what has been gathered as a last shard, if anything."""
        gathered, self._pending = self._pending, []
        self._pending_rows = self._pending_tokens = 0
        if gathered:
            self.cut += 1
            yield pa.concat_tables(gathered)


def _error_table(numbered: NumberedChunk) -> pa.Table:
    bad = numbered.chunk.bad
    return pa.table(
        [
            pa.array(numbered.bad_row_ids, pa.int64()),
            pa.array([numbered.file.name] * len(bad), pa.string()),
            pa.array([row.row for row in bad], pa.int64()),
            pa.array([row.line for row in bad], pa.int64()),
            pa.array([row.reason for row in bad], pa.string()),
            pa.array([valid(row.text) for row in bad], pa.string()),
        ],
        schema=ERROR_SCHEMA,
    )


class ErrorFile:
    """A Parquet file of bad rows, written as they come; use as a context.

    The file appears only if a row was written, and only if the context ends without an exception.
    """

    def __init__(self, place: Place, name: str, job: str) -> None:
        self.place, self.name = place, name
        self._schema = ERROR_SCHEMA.with_metadata(mark(job))
        self._file = ExitStack()
        self._writer: pq.ParquetWriter | None = None

    def write(self, table: pa.Table) -> None:
        """Append rows; an empty table writes nothing."""
        if not len(table):
            return
        if self._writer is None:
            path = self._file.enter_context(self.place.writing(self.name))
            self._writer = pq.ParquetWriter(path, self._schema, compression="zstd")
        self._writer.write_table(table)

    def __enter__(self) -> "ErrorFile":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        if self._writer is not None:
            self._writer.close()
        self._file.__exit__(kind, error, tb)
