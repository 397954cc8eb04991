"""The nearest rows by an output's index."""

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from jobs.output.indexed import IndexRecord
from jobs.vectors.index import faiss_or_error
from jobs.vectors.scan import Nearest
from mtl_core.storage.place import Place

if TYPE_CHECKING:
    import faiss


class OpenIndex:
    """An index whose files are mapped into memory: of these, only what a search reads is loaded."""

    def __init__(self, output: Place, record: IndexRecord, stack: ExitStack) -> None:
        """Open the files.

        Args:
            stack: closes them at its end.
        Raises:
            SettingsError: faiss is not installed.
        """
        faiss = faiss_or_error()
        self._record = record
        self._files: list[Any] = []
        for file in record.files:
            path = stack.enter_context(output.reading(file.file))
            self._files.append(faiss.read_index(str(path), faiss.IO_FLAG_MMAP))
        stack.callback(self._files.clear)

    def nearest(
        self, queries: NDArray[np.float32], most: int, mask: NDArray[np.bool_] | None = None
    ) -> Nearest:
        """The nearest rows by their codes: cosines are those of the codes, and a row may be missed.

        Args:
            queries: unit vectors, float32 [Q, E].
            most: how many rows a query.
            mask: among these rows only, bool [rows in all parts].
        """
        parameters, _kept = self._parameters(mask)
        found = Nearest.none(len(queries))
        for file in self._files:
            cosines, rows = file.search(queries, most, params=parameters)
            cosines[rows < 0] = -np.inf
            found = found.joined(Nearest(cosines, rows), most)
        enough = int((found.rows >= 0).sum(axis=1).max(initial=0))
        return Nearest(found.cosines[:, :enough], found.rows[:, :enough])

    def _parameters(
        self, mask: NDArray[np.bool_] | None
    ) -> tuple["faiss.SearchParameters", object]:
        """How to search, and what must be kept alive meanwhile.

        The fewer rows meet the condition, the more lists are read, until it is all of them.
        """
        import faiss

        probed, lists = self._record.probed, max(file.nlist for file in self._files)
        if mask is None:
            return faiss.SearchParametersIVF(nprobe=probed), None
        bits = np.packbits(mask, bitorder="little")
        chosen = faiss.IDSelectorBitmap(bits)
        probed = min(lists, int(np.ceil(probed / max(mask.mean(), 1e-9))))
        return faiss.SearchParametersIVF(nprobe=probed, sel=chosen), (bits, chosen)
