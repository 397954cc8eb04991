"""One other way to the same vectors, in an environment of its own (``peers.txt``).

``python benchmarks/peer.py WAY FOLDER``: loads the backbone in FOLDER, says its version, then
answers each line ``SOURCE<tab>TARGET`` on its standard input with ``done`` once the texts of
one Parquet file have become the vectors of another. Nothing of this project is imported.
"""

import asyncio
import os
import sys
from collections.abc import Callable
from importlib.metadata import version

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

os.environ["HF_HUB_OFFLINE"] = "1"

Embed = Callable[[list[str]], np.ndarray]


def sentence_transformers_openvino(folder: str) -> Embed:
    """``encode`` with ``backend="openvino"``, whose default is bf16 where the chip has it."""
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(folder, backend="openvino", device="cpu")
    return lambda texts: model.encode(texts)


def infinity(folder: str) -> Embed:
    """infinity_emb in-process, bf16."""
    from infinity_emb import AsyncEmbeddingEngine, EngineArgs

    loop = asyncio.new_event_loop()
    engine = AsyncEmbeddingEngine.from_args(
        EngineArgs(
            model_name_or_path=folder,
            engine="torch",
            device="cpu",
            dtype="bfloat16",
            bettertransformer=False,
            model_warmup=False,
            lengths_via_tokenize=False,
        )
    )
    loop.run_until_complete(engine.astart())

    def embed(texts: list[str]) -> np.ndarray:
        vectors, _ = loop.run_until_complete(engine.embed(sentences=texts))
        return np.stack(vectors)

    return embed


WAYS: dict[str, tuple[Callable[[str], Embed], str]] = {
    "sentence-transformers, openvino": (sentence_transformers_openvino, "optimum-intel"),
    "infinity_emb, bf16": (infinity, "infinity-emb"),
}


def main() -> None:
    """Load, then work by the line."""
    make, package = WAYS[sys.argv[1]]
    answers, sys.stdout = sys.stdout, sys.stderr  # libraries print as they like
    embed = make(sys.argv[2])
    print(f"{package} {version(package)}", file=answers, flush=True)
    for line in sys.stdin:
        source, target = line.rstrip("\n").split("\t")
        vectors = embed(pq.read_table(source)["text"].to_pylist()).astype(np.float32)
        flat = pa.array(vectors.reshape(-1))
        column = pa.FixedSizeListArray.from_arrays(flat, vectors.shape[1])
        pq.write_table(pa.table({"embedding": column}), target, compression="zstd")
        print("done", file=answers, flush=True)


if __name__ == "__main__":
    main()
