"""Turn an exported OpenVINO graph into int8, by NNCF's post-training quantisation.

Weights and the inputs of the matrix products become int8; their ranges are measured on texts like
those to be labelled. Run as a process of its own (``python -m mtl_core.engine.quantise GRAPH TEXTS
OUTPUT``), so that what NNCF loads stays out of workers.
"""

import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from mtl_core.errors import ModelError
from mtl_core.model.tokenizer import Tokenizer
from mtl_core.token_ids import TokenIds

CALIBRATION_TEXTS = 300
"""How many texts ranges are measured on at most. From 204 to 300 no difference was measured."""


def quantise(graph: Path, texts: Sequence[str], output: Path) -> None:
    """Write the int8 form of an exported graph beside copies of its other files.

    Args:
        graph: a folder made by ``mtl_core.engine.export`` in the format openvino.
        texts: texts to measure ranges on, at least one.
        output: a folder that is not there yet.
    Raises:
        ModelError: NNCF is not installed.
    """
    try:
        import nncf
    except ImportError as error:
        raise ModelError("int8 needs NNCF: pip install 'mtl-batch[int8]'") from error
    import openvino

    from mtl_core.engine.attention import write_out_attention

    facts = json.loads((graph / "labels.json").read_text(encoding="utf-8"))
    tokenizer = Tokenizer.from_file(
        graph / "tokenizer.json", facts["pad_token_id"], facts["max_tokens"]
    )
    floats = openvino.Core().read_model(graph / "model.xml")
    # Attention stays in floats: transposing int8 queries and keys in memory took longer than their
    # products (docs/performance.md).
    attention = write_out_attention(floats)
    quantised = nncf.quantize(
        floats,
        nncf.Dataset(tokenizer(texts), lambda ids: list(tokenizer.pad_arrays(TokenIds.of([ids])))),
        model_type=nncf.ModelType.TRANSFORMER,
        subset_size=len(texts),
        ignored_scope=nncf.IgnoredScope(names=attention),
    )
    output.mkdir(parents=True)
    openvino.save_model(quantised, output / "model.xml", compress_to_fp16=False)
    for name in ("tokenizer.json", "labels.json"):
        shutil.copyfile(graph / name, output / name)


def main() -> None:
    """``python -m mtl_core.engine.quantise GRAPH TEXTS OUTPUT``; TEXTS is a JSON list."""
    graph, texts, output = map(Path, sys.argv[1:])
    try:
        quantise(graph, json.loads(texts.read_text(encoding="utf-8")), output)
    except ModelError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
