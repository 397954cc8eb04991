"""Export a model to formats of other software: sentence-transformers, ONNX, OpenVINO.

ONNX and OpenVINO hold one graph. Token ids go in; the embedding and each task's calibrated
probabilities come out, and each text is encoded once. sentence-transformers holds only the
embedding.
"""

import json
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers.utils import logging as transformers_logging

from mtl_core.engine.graph import LabelGraph
from mtl_core.errors import ModelError, MtlError, OutputError
from mtl_core.files import write_json
from mtl_core.model.network import LoadedModel, load_model


def export_model(loaded: LoadedModel, format: str, output: Path) -> None:
    """Write a model in another format into a new or empty folder.

    Args:
        format: a key of :data:`FORMATS`.
    Raises:
        ModelError: the format's packages are not installed.
        OutputError: the folder holds something, or cannot be written.
    """
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise OutputError(f"{output} is not empty; name a new folder by -o")
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        # In a new folder, so that only files of our own are removed after a failure.
        with tempfile.TemporaryDirectory(prefix=f".{output.name}.", dir=output.parent) as made:
            whole = Path(made) / "model"
            whole.mkdir()
            with warnings.catch_warnings():
                # Tracers warn about branches that no input of ours takes.
                warnings.simplefilter("ignore")
                FORMATS[format](loaded, whole)
            whole.rename(output)  # takes the place of an empty folder, too
    except OSError as error:
        raise OutputError(f"{output} cannot be written ({error.strerror or error})") from error
    except ImportError as error:
        raise ModelError(
            f"export to {format} needs a package that is not installed ({error.name}): "
            "pip install 'mtl-batch[export]'"
        ) from error


def _sentence_transformers(loaded: LoadedModel, output: Path) -> None:
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer import modules
    from transformers import AutoTokenizer

    from mtl_core.model.backbones import resolve_backbone

    encoder, config = loaded.model.encoder, loaded.model.config
    backbone: Any = encoder.backbone
    # The backbone with this model's weights, as a folder that the library can load.
    folder = output / "backbone"
    backbone.save_pretrained(folder)
    files = resolve_backbone(config.backbone)
    AutoTokenizer.from_pretrained(files.folder, use_fast=True).save_pretrained(folder)
    transformer = modules.Transformer(str(folder))
    transformer.max_seq_length = config.max_tokens
    dense = modules.Dense(
        encoder.projection.in_features,
        encoder.projection.out_features,
        activation_function=nn.Tanh(),
    )
    dense.linear = encoder.projection
    pooling = modules.Pooling(encoder.projection.in_features, pooling_mode=encoder.pooling)
    library = SentenceTransformer(
        modules=[transformer, pooling, dense, modules.Normalize()], device="cpu"
    )
    library.save(str(output), create_model_card=False)
    for path in sorted(folder.iterdir()):
        path.unlink()
    folder.rmdir()


def _onnx(loaded: LoadedModel, output: Path) -> None:
    import onnxscript  # noqa: F401  # torch's exporter needs it and says so less clearly

    graph = LabelGraph(loaded.model).eval()
    torch.onnx.export(
        graph,
        _example(loaded),
        str(output / "model.onnx"),
        input_names=["input_ids", "attention_mask"],
        output_names=graph.output_names,
        dynamic_shapes=_dynamic_shapes(),
        external_data=False,
        verbose=False,
    )
    _describe(loaded, graph, output)


def _openvino(loaded: LoadedModel, output: Path) -> None:
    import openvino

    graph = LabelGraph(loaded.model).eval()
    converted = openvino.convert_model(
        graph,
        example_input=_example(loaded),
        input=[("input_ids", [-1, -1]), ("attention_mask", [-1, -1])],
    )
    for port, name in zip(converted.outputs, graph.output_names, strict=True):
        port.get_tensor().set_names({name})
    openvino.save_model(converted, output / "model.xml", compress_to_fp16=False)
    _describe(loaded, graph, output)


def _example(loaded: LoadedModel) -> tuple[Tensor, Tensor]:
    """Ids and mask of two texts of different lengths, int64 [2, T] each."""
    tokenizer = loaded.tokenizer
    return tokenizer.pad(tokenizer(["one short text", "and another one that is a little longer"]))


def _dynamic_shapes() -> tuple[Any, ...]:
    from torch.export import Dim

    return ({0: Dim.DYNAMIC, 1: Dim.DYNAMIC}, {0: Dim.DYNAMIC, 1: Dim.DYNAMIC})


def _describe(loaded: LoadedModel, graph: LabelGraph, output: Path) -> None:
    """Write ``labels.json``, what outputs mean, and ``tokenizer.json``, how inputs are made."""
    config = loaded.model.config
    write_json(
        output / "labels.json",
        {
            "inputs": ["input_ids", "attention_mask"],
            "outputs": graph.output_names,
            "labels": {task.name: list(task.labels) for task in config.tasks},
            "max_tokens": config.max_tokens,
            "hidden_size": loaded.model.encoder.projection.in_features,
            "pad_token_id": loaded.tokenizer.pad_token_id,
            "model_sha256": loaded.sha256,
        },
    )
    (output / "tokenizer.json").write_text(
        json.dumps(json.loads(loaded.tokenizer.to_json()), ensure_ascii=False), encoding="utf-8"
    )


FORMATS: dict[str, Callable[[LoadedModel, Path], None]] = {
    "sentence-transformers": _sentence_transformers,
    "onnx": _onnx,
    "openvino": _openvino,
}


def main() -> None:
    """``python -m mtl_core.engine.export MODEL_DIR FORMAT OUTPUT``, for a process of its own."""
    folder, form, output = sys.argv[1:]
    try:
        export_model(load_model(Path(folder)), form, Path(output))
    except MtlError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
