"""``python -m simulated``: a worker whose engine only waits, so that queue and files are the limit.

``MTL_SIMULATED_TOKENS_PER_S`` (default 15000) is the rate it waits by. Everything else (messages,
ledger, reading, Parquet) is the real worker's.
"""

import os
import time
from pathlib import Path
from typing import Any

import numpy as np

from mtl_core.engine.base import Engine, Forward, Pending
from mtl_core.files import file_sha256
from mtl_core.model.backbones import resolve_backbone
from mtl_core.model.config import read_model_config
from mtl_core.model.tokenizer import Tokenizer
from mtl_core.token_ids import TokenIds

BATCH_TOKENS = 16_384
RATE = float(os.environ.get("MTL_SIMULATED_TOKENS_PER_S", "15000"))


class WaitingEngine(Engine):
    """Answers with the same numbers for every text, after as long as a device would have taken.

    The device works on one batch at a time and uses no core; two batches may be under way.
    """

    name = "simulated"
    in_flight = 2

    def __init__(self, folder: Path) -> None:
        config = read_model_config(folder)
        file = resolve_backbone(config.backbone).folder / "tokenizer.json"
        tokenizer = Tokenizer.from_file(file, 0, config.max_tokens)
        sha256 = file_sha256(folder / "model.safetensors")
        super().__init__(config, tokenizer, sha256, "none", BATCH_TOKENS)
        rows = np.random.default_rng(0).normal(size=(BATCH_TOKENS, config.embedding_size))
        self._rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype("f4")
        self._free_s = 0.0

    def start(self, batch: TokenIds) -> Pending:
        """Give a batch to the device, which begins with it as soon as it is free."""
        answers = {
            task.name: np.tile(np.eye(len(task.labels), dtype="f4")[0], (len(batch), 1))
            for task in self.config.tasks
        }
        seconds = int(batch.lengths.sum()) / RATE if RATE else 0.0
        self._free_s = due_s = max(time.perf_counter(), self._free_s) + seconds

        def finish() -> Forward:
            time.sleep(max(0.0, due_s - time.perf_counter()))
            return self._rows[: len(batch)], answers

        return finish


def main() -> None:
    """Run the real worker with this engine in place of a real one."""
    import worker.engines
    from worker.__main__ import main as run_worker

    loaded: dict[Path, Engine] = {}

    def engine_for(folder: Path, *_: Any) -> Engine:
        if folder not in loaded:
            loaded[folder] = WaitingEngine(folder)
        return loaded[folder]

    worker.engines.engine_for = engine_for  # type: ignore[assignment]
    run_worker()


if __name__ == "__main__":
    main()
