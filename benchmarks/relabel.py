"""``mtl relabel`` from stored embeddings: its speed, and how many labels equal encoding again.

``python benchmarks/relabel.py --data DIR [--rows 1000000] speed``: a worker whose engine does not
compute makes an output with that many AG News texts (repeated, numbered) and drawn unit vectors;
``mtl relabel`` labels it anew with a copy of the model whose heads are others. Seconds are those of
the whole command.

``python benchmarks/relabel.py --data DIR [--rows 1000] agreement``: texts of AG News test are
encoded by the copy's engine; its labels are compared with those that its heads give from the same
model's embeddings, computed in another order, as each form stores them. Both print JSON.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from safetensors.numpy import load_file, save_file
from support import Worker, manifest_of

from jobs.embedded import EmbeddedRedis
from jobs.output.layout import MANIFEST
from jobs.output.rows import vectors_of
from mtl_core.config import Embedding
from mtl_core.engine.choose import choose_engine
from mtl_core.engine.heads import read_heads
from mtl_core.engine.load import load_engine
from mtl_core.model.registry import SHIPPED_MODELS
from mtl_core.storage.folder import Folder
from mtl_core.storage.parquet import EMBEDDING, embedding_columns, put_table

FORMS: tuple[Embedding, ...] = ("float32", "float16", "int8")


def other_heads(folder: Path) -> Path:
    """A copy of the shipped model whose heads' weights are others, by a third of their size."""
    shutil.copytree(SHIPPED_MODELS / "default", folder)
    weights = folder / "model.safetensors"
    tensors, draw = load_file(weights), np.random.default_rng(0)
    for name, value in tensors.items():
        if name.startswith("heads.") and name.endswith("weight"):
            noise = draw.normal(0, value.std() / 3, value.shape)
            tensors[name] = (value + noise).astype(np.float32)
    save_file(tensors, weights)
    return folder


def texts_of(data: Path, rows: int) -> list[str]:
    """Texts of AG News test in a drawn order, again from the beginning where they run out."""
    texts = pq.read_table(data / "ag_news" / "test.parquet").column("text").to_pylist()
    order = np.random.default_rng(0).permutation(len(texts))
    return [texts[order[row % len(texts)]] for row in range(rows)]


def draw_vectors(output: Path) -> None:
    """Give every row of an output a unit vector of its own, as an engine would have.

    The engine that does not compute repeats a few, which Parquet would write in no space.
    """
    draw, manifest = np.random.default_rng(0), manifest_of(output)
    for part in manifest["parts"]:
        with (output / part["part"]).open("rb") as stream:
            table = pq.read_table(stream)
        at = table.schema.get_field_index(EMBEDDING)
        size = table.schema.field(at).type.list_size
        vectors = draw.standard_normal((len(table), size), dtype=np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        column = embedding_columns(vectors, "float32")[EMBEDDING]
        table = table.set_column(at, table.schema.field(at), column)
        written = put_table(Folder(output), part["part"], table)
        part.update(bytes=written.bytes, sha256=written.sha256)
    (output / MANIFEST).write_text(json.dumps(manifest))


def speed(data: Path, rows: int, folder: Path) -> dict[str, object]:
    """Make an output, label it anew by the whole command, and verify it."""
    texts = [f"{text} {row}" for row, text in enumerate(texts_of(data, rows))]
    pq.write_table(pa.table({"text": texts}), folder / "in.parquet")
    path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    simulated = {"PYTHONPATH": path, "MTL_SIMULATED_TOKENS_PER_S": "0"}
    with EmbeddedRedis(folder) as redis:
        worker = Worker(redis.url, folder, "simulated", **simulated)
        try:
            worker.start().label(folder / "in.parquet", folder / "out", wait=True)
        finally:
            worker.stop()
    draw_vectors(folder / "out")
    model, environment = other_heads(folder / "model"), dict(os.environ)
    environment.pop("MTL_REDIS_URL", None)
    command = [sys.executable, "-m", "jobs", "relabel", folder / "out", "--model", model]
    started = time.monotonic()
    ran = subprocess.run(
        [*map(str, command), "-o", str(folder / "out2")],
        check=True, capture_output=True, text=True, env=environment,
    )  # fmt: skip
    seconds = time.monotonic() - started
    verify = [sys.executable, "-m", "jobs", "verify", str(folder / "out2")]
    subprocess.run(verify, check=True, capture_output=True, env=environment)
    manifest = manifest_of(folder / "out2")
    sums = {n: sum(p["seconds"][n] for p in manifest["parts"]) for n in ("load", "label", "write")}
    return {
        "rows": rows,
        "seconds": round(seconds, 1),
        "job_seconds": manifest["seconds"],
        "worker_seconds": {name: round(value, 1) for name, value in sums.items()},
        "bytes": sum(part["bytes"] for part in manifest["parts"]),
        "said": ran.stderr.splitlines()[0],
        "load_average": os.getloadavg()[0],
    }


def agreement(data: Path, rows: int, folder: Path) -> list[dict[str, object]]:
    """One record for each task and form of the embedding."""
    texts, model = texts_of(data, rows), other_heads(folder / "model")
    name = choose_engine("auto")
    new = load_engine(model, name, "auto", cache=folder / "engines")
    again = new.label(texts, lambda done: None)
    old = load_engine(SHIPPED_MODELS / "default", name, "auto", cache=folder / "engines")
    stored = old.label(texts[::-1], lambda done: None).embeddings[::-1]
    records: list[dict[str, object]] = []
    for form in FORMS:
        vectors = vectors_of(pa.table(embedding_columns(stored, form)), form)
        found = read_heads(model).label(vectors, again.truncated)
        for task, own, theirs in zip(new.config.tasks, found.labels, again.labels, strict=True):
            records.append(
                {
                    "task": task.name,
                    "form": form,
                    "rows": rows,
                    "engine": f"{new.name} {new.precision}",
                    "same_label": float((own.classes == theirs.classes).mean()),
                    "score_difference": float(np.abs(own.scores - theirs.scores).max()),
                }
            )
    return records


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("speed", "agreement"))
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--rows", type=int)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["MTL_STATE_DIR"] = f"{folder}/state"
        if arguments.what == "speed":
            print(json.dumps(speed(arguments.data, arguments.rows or 1_000_000, Path(folder))))
        else:
            for record in agreement(arguments.data, arguments.rows or 1000, Path(folder)):
                print(json.dumps(record))


if __name__ == "__main__":
    main()
