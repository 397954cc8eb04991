"""``python -m simulated``: a worker whose engine only waits, so that queue and files are the limit.

``MTL_SIMULATED_TOKENS_PER_S`` (default 15000) is the rate it waits by. Everything else (messages,
ledger, reading, Parquet) is the real worker's.
"""

import os
import time
from pathlib import Path
from typing import Any

import numpy as np

from mtl_core.engine.base import Engine, Pending
from mtl_core.files import file_sha256
from mtl_core.model.backbones import resolve_backbone
from mtl_core.model.config import read_model_config
from mtl_core.model.tokenizer import Tokenizer

RATE = float(os.environ.get("MTL_SIMULATED_TOKENS_PER_S", "15000"))


class WaitingEngine(Engine):
    """Answers with the same numbers for every text, after as long as they would have taken."""

    name = "simulated"

    def __init__(self, folder: Path) -> None:
        config = read_model_config(folder)
        file = resolve_backbone(config.backbone).folder / "tokenizer.json"
        tokenizer = Tokenizer.from_file(file, 0, config.max_tokens)
        sha256 = file_sha256(folder / "model.safetensors")
        super().__init__(config, tokenizer, sha256, "none", 2048)
        self._rows = np.random.default_rng(0).normal(size=(2048, config.embedding_size))
        self._rows = (self._rows / np.linalg.norm(self._rows, axis=1, keepdims=True)).astype("f4")

    def start(self, ids: list[list[int]]) -> Pending:
        """Wait for as long as the batch's tokens take."""
        if RATE:
            time.sleep(sum(map(len, ids)) / RATE)
        answers = {
            task.name: np.tile(np.eye(len(task.labels), dtype="f4")[0], (len(ids), 1))
            for task in self.config.tasks
        }
        return lambda: (self._rows[: len(ids)], answers)


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
