"""An output as a Delta table, one commit a generation, by deltalake (delta-rs; Apache-2.0).

Each commit carries the output's name and the generation's number as an application transaction of
Delta's own protocol (``txn`` in the log). By it a repeated command knows what the table holds: each
generation is in it once, whenever the command is killed. Of two commands at once one is refused.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

import pyarrow as pa

from jobs import interrupt
from jobs.output.collect import checked_parts
from jobs.output.delta_types import delta_type, held
from jobs.output.generations import generations_of, of_generation
from jobs.output.layout import read_manifest, require_finished
from jobs.output.manifest import Generation, Manifest
from jobs.output.targets import check_outside_outputs
from mtl_core.errors import InputError, MtlError, OutputError, SettingsError
from mtl_core.storage.address import absolute
from mtl_core.storage.folder import Folder
from mtl_core.storage.place import Place

if TYPE_CHECKING:
    from deltalake import CommitProperties, DeltaTable

BATCH_ROWS = 8192
GROUP_ROWS = 4 * BATCH_ROWS
"""Rows of a row group, which the writer holds in memory; by itself it holds a million."""
GENERATION = "mtl.generation"
JOB = "mtl.job"
ROWS = "mtl.rows"
LOG = "_delta_log"


@dataclass(frozen=True)
class IntoTable:
    """What became of an output's generations."""

    rows: int
    """Rows written now."""
    written: tuple[int, ...]
    """Generations written now, each by a commit."""
    there: tuple[int, ...]
    """Generations that the table held before."""
    left_out: dict[str, str]
    """Columns of a type that Delta has not, with it."""


def collect_delta(output: Place, target: Place) -> IntoTable:
    """Write the generations that a Delta table lacks, in their order; make it if it is not there.

    Parts are read one at a time and checked against the manifest; the writer holds some row groups.

    Args:
        target: the table's folder.
    Raises:
        InputError: the output is not finished, holds no labelled row, a part has changed or gone,
            or a value does not fit the table.
        OutputError: the target holds something else, or cannot be written.
        SettingsError: deltalake is not installed.
    """
    _require_deltalake()
    require_finished(output)
    manifest = read_manifest(output)
    if not manifest.parts:
        raise InputError(f"{output} holds no labelled row")
    table = _Table(output, manifest, target)
    last = table.last_written()
    there = [each for each in generations_of(manifest) if each.number <= last]
    table.require_unchanged(there)
    rows, written, left_out = 0, list[int](), dict[str, str]()
    for each in generations_of(manifest)[len(there) :]:
        if each.rows.labelled:
            left_out |= table.commit(each)
            rows += each.rows.labelled
            written.append(each.number)
    return IntoTable(rows, tuple(written), tuple(each.number for each in there), left_out)


def _require_deltalake() -> None:
    try:
        import deltalake  # noqa: F401
    except ImportError as error:
        raise SettingsError(
            "a Delta table needs deltalake: pip install 'mtl-batch[delta]'"
        ) from error


class _Table:
    """The table of one output."""

    def __init__(self, output: Place, manifest: Manifest, target: Place) -> None:
        """Look whether the target can be, or is, the table.

        Raises:
            OutputError: it holds something else.
        """
        self.output, self.manifest, self.target = output, manifest, target
        self.name = f"mtl-batch/{manifest.job}"  # a job makes one output
        self.address = absolute(target)
        if isinstance(target, Folder):
            check_outside_outputs(target.path)
        if target.is_file():
            raise OutputError(f"{target} is a file; give a folder for the table by -o")
        self._table: DeltaTable | None = None
        if target.below(LOG).names():
            with _in_one_line(target):
                self._table = self._opened()
        elif not all(map(_may_be_ours, (*target.names(), *target.folders()))):
            raise OutputError(f"{target} holds other files; give a new or empty folder by -o")

    def last_written(self) -> int:
        """The newest generation that the table holds; 0: there is no table.

        Raises:
            OutputError: the table was not written from this output.
        """
        if self._table is None:
            return 0
        last = self._table.transaction_version(self.name)
        if last is None:
            raise OutputError(
                f"{self.target} is a Delta table, but none that was written from {self.output}; "
                "give a new folder by -o"
            )
        return int(last)

    def require_unchanged(self, there: Sequence[Generation]) -> None:
        """Raise OutputError if a generation is another one than was written.

        A partial one may have been tried again since, or the output been made anew. What a log
        that was cleaned up does not tell any more is not compared.
        """
        if self._table is None:
            return
        with _in_one_line(self.target):
            history = self._table.history()
        said = {str(commit[GENERATION]): commit for commit in history if GENERATION in commit}
        for each in there:
            commit = said.get(str(each.number))
            if commit and (commit.get(JOB), commit.get(ROWS)) != _facts(each):
                raise OutputError(
                    f"{self.target} holds another generation {each.number} than {self.output} does "
                    "now (rows tried again, or labelled anew); write a new table by -o"
                )

    def commit(self, generation: Generation) -> dict[str, str]:
        """Write one generation as one commit; returns the columns that Delta cannot hold.

        Raises:
            InputError: a part has changed or gone, or a value does not fit the table.
            OutputError: the table cannot be written.
        """
        from deltalake import WriterProperties, write_deltalake
        from deltalake.exceptions import CommitFailedError

        tables = checked_parts(self.output, of_generation(self.manifest, generation.number))
        first, raised = next(tables), list[MtlError]()
        kinds = {field.name: delta_type(field.type) for field in first.schema}
        schema = pa.schema([(name, kind) for name, kind in kinds.items() if kind is not None])
        batches = _batches(chain([first], tables), schema, raised)
        with _in_one_line(self.target, raised):
            write_deltalake(
                # Not its path: what others write from now on must be seen as a conflict.
                self._table or self.address,
                pa.RecordBatchReader.from_batches(schema, batches),
                mode="append" if self._table else "error",
                writer_properties=WriterProperties(
                    compression="ZSTD", max_row_group_size=GROUP_ROWS
                ),
                storage_options=_storage_options(self.target),
                commit_properties=self._said(generation),
            )
            self._table = self._opened()
            if self._table.transaction_version(self.name) != generation.number:
                raise CommitFailedError
        return {field.name: str(field.type) for field in first.schema if not kinds[field.name]}

    def _said(self, generation: Generation) -> "CommitProperties":
        """What a commit says of itself."""
        from deltalake import CommitProperties, Transaction

        job, count = _facts(generation)
        return CommitProperties(
            custom_metadata={GENERATION: str(generation.number), JOB: job, ROWS: count},
            app_transactions=[Transaction(self.name, generation.number)],
        )

    def _opened(self) -> "DeltaTable":
        from deltalake import DeltaTable

        return DeltaTable(self.address, storage_options=_storage_options(self.target))


def _batches(
    tables: Iterable[pa.Table], schema: pa.Schema, raised: list[MtlError]
) -> Iterator[pa.RecordBatch]:
    """Parts' rows in types that Delta has.

    Args:
        raised: gets an error of the rows' own; out of the writer it comes as text with a traceback.
    """
    try:
        for table in tables:
            yield from held(table, schema).to_batches(max_chunksize=BATCH_ROWS)
    except MtlError as error:
        raised.append(error)
        raise


def _facts(generation: Generation) -> tuple[str, str]:
    """Its job and rows, as a commit's metadata holds them."""
    return generation.job, str(generation.rows.labelled)


def _may_be_ours(name: str) -> bool:
    """Whether a name is one that a command leaves which is killed before its first commit."""
    return name == LOG or (name.startswith("part-") and name.endswith(".parquet"))


@contextmanager
def _in_one_line(target: Place, raised: Sequence[MtlError] = ()) -> Iterator[None]:
    """Turn an error of deltalake into one line that names the target.

    Args:
        raised: errors of the rows' own, which go before what deltalake made of them.
    Raises:
        OutputError: the table cannot be read or written.
    """
    from deltalake.exceptions import CommitFailedError, SchemaMismatchError

    try:
        with interrupt.unwinding():
            yield
    except CommitFailedError as error:
        raise _at_once(target) from error
    except SchemaMismatchError as error:
        raise OutputError(
            f"{target} has other columns than the output ({_first_line(error)}); write a new table "
            "by -o"
        ) from error
    except Exception as error:  # it raises plain exceptions, too
        if raised:
            raise raised[0] from error
        if "already exists" in str(error):  # it was not there just now
            raise _at_once(target) from error
        raise OutputError(
            f"{target} cannot be used as a Delta table ({_first_line(error)}); mend that, or give "
            "another place by -o"
        ) from error


def _at_once(target: Place) -> OutputError:
    return OutputError(f"{target} was written by another command at the same time; repeat this one")


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _storage_options(target: Place) -> dict[str, str] | None:
    """What deltalake does not take from the environment as we do."""
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    if isinstance(target, Folder) or not endpoint:
        return None
    plain = {"AWS_ALLOW_HTTP": "true"} if endpoint.startswith("http://") else {}
    return {"AWS_ENDPOINT_URL": endpoint, **plain}
