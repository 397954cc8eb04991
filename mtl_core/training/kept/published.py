"""Run the backbone as published once over all rows, and keep the results in files.

On a CPU and for many rows this pass runs in OpenVINO, if that is installed.
"""

import warnings
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mtl_core.engine.choose import choose_precision
from mtl_core.model.batches import token_batches
from mtl_core.model.encoder import BATCH_TOKENS, SentenceEncoder
from mtl_core.model.precision import autocast, on_device
from mtl_core.model.tokenizer import Tokenizer
from mtl_core.pulse import Pulse, no_pulse, pulsing, with_pulse
from mtl_core.token_ids import TokenIds, starts_of
from mtl_core.training.kept.arrays import new_array
from mtl_core.training.kept.boundary import captured

# Converting the backbone to OpenVINO takes about 6 s on two cores and saves 33 µs a token.
OPENVINO_FROM_TOKENS = 400_000

Pass = Callable[[Tensor, Tensor], list[NDArray[np.float32]]]
"""A function from ids and mask, int64 [B, T] each, to pooled vectors [B, H] and, if asked for, to
what enters a layer [B, T, H]."""


class PublishedGraph(nn.Module):
    """Computes pooled vectors and, unless ``layer`` is 0, what enters that layer."""

    def __init__(self, encoder: SentenceEncoder, layer: int) -> None:
        super().__init__()
        self.encoder, self.layer = encoder, layer

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, ...]:
        if not self.layer:
            return (self.encoder.pool(input_ids, attention_mask),)
        with captured(self.encoder, self.layer) as found:
            pooled = self.encoder.pool(input_ids, attention_mask)
        return pooled, found[0].float()


def published_pass(
    encoder: SentenceEncoder,
    tokenizer: Tokenizer,
    precision: str,
    layer: int,
    tokens: int,
    pulse: Pulse = no_pulse,
) -> Pass:
    """Make the pass; one serves all rows of a run.

    Args:
        layer: the layer whose input is wanted, too; 0: none.
        tokens: about how many tokens will be run; decides between torch and OpenVINO.
    """
    graph = PublishedGraph(encoder, layer).eval()
    device = encoder.projection.weight.device
    on_cpu = device.type == "cpu"
    if on_cpu and tokens >= OPENVINO_FROM_TOKENS and find_spec("openvino") is not None:
        precision = choose_precision("openvino", precision)
        return with_pulse(pulse, _in_openvino, graph, tokenizer, precision)

    def run(input_ids: Tensor, mask: Tensor) -> list[NDArray[np.float32]]:
        with torch.inference_mode(), autocast(encoder, precision):
            found = graph(on_device(input_ids, device), on_device(mask, device))
        return [values.float().cpu().numpy() for values in found]

    return run


def _in_openvino(graph: PublishedGraph, tokenizer: Tokenizer, precision: str) -> Pass:
    import openvino

    example = tokenizer.pad(tokenizer(["one short text", "and another one that is longer"]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tracing reads all attributes, and deprecated ones warn
        converted = openvino.convert_model(
            graph,
            example_input=example,
            input=[("input_ids", [-1, -1]), ("attention_mask", [-1, -1])],
        )
    hint = {"bfloat16": "bf16", "float32": "f32"}[precision]
    options = {"INFERENCE_PRECISION_HINT": hint, "PERFORMANCE_HINT": "LATENCY"}
    request = openvino.Core().compile_model(converted, "CPU", options).create_infer_request()

    def run(input_ids: Tensor, mask: Tensor) -> list[NDArray[np.float32]]:
        found = request.infer([input_ids.numpy(), mask.numpy()], share_inputs=True)
        return [np.asarray(found[number]) for number in range(len(found))]

    return run


def write_published(
    run: Pass,
    tokenizer: Tokenizer,
    ids: TokenIds,
    hidden_size: int,
    pooled_path: Path,
    activations_path: Path | None = None,
    pulse: Pulse = no_pulse,
    batch_tokens: int = BATCH_TOKENS["cpu"],
) -> None:
    """Run all rows once and write ``.npy`` files, with a relative error of 5e-4 (half precision).

    The files hold pooled vectors, float16 [N, H], and activations, float16 [tokens, H]. They are
    mapped files and no arrays in memory: the operating system keeps in memory what fits, so that
    memory stays flat however many rows there are.
    """
    lengths = ids.lengths
    starts = starts_of(lengths)
    pooled = new_array(pooled_path, (len(ids), hidden_size))
    kept = None
    if activations_path is not None:
        kept = new_array(activations_path, (int(lengths.sum()), hidden_size))
    for rows in pulsing(token_batches(lengths, batch_tokens), pulse):
        pooled[rows], *states = run(*tokenizer.pad(ids.take(rows)))
        if kept is not None:
            for state, row in zip(states[0], rows, strict=True):
                kept[starts[row] : starts[row] + lengths[row]] = state[: lengths[row]]
    with_pulse(pulse, pooled.flush)
    if kept is not None:
        with_pulse(pulse, kept.flush)
