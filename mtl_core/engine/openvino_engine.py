"""OpenVINO on the CPU: the whole model as one compiled graph.

The graph is exported once for each model into a cache folder, in a process of its own; after that a
worker needs neither torch nor transformers to label.
"""

import hashlib
import json
import mmap
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import openvino
from openvino import CompiledModel, Model

from mtl_core import __version__
from mtl_core.cores import available_cores
from mtl_core.engine.attention import write_out_attention
from mtl_core.engine.base import EMBEDDING_OUTPUT, Engine, Forward, Pending
from mtl_core.engine.choose import choose_precision
from mtl_core.engine.graph_folders import drop_old_graphs, graphs_in_use
from mtl_core.errors import ModelError
from mtl_core.files import file_sha256, temporary_beside
from mtl_core.model.config import CONFIG, WEIGHTS, read_model_config
from mtl_core.model.tokenizer import Tokenizer
from mtl_core.processes import program
from mtl_core.pulse import EVERY_S, Pulse, no_pulse, with_pulse
from mtl_core.token_ids import TokenIds

# Padded tokens in one batch; one core computes it, and its activations stay in the core's cache.
BATCH_TOKENS = 1024
# Each core has its stream, with a batch of its own, up to this many; then cores share streams.
MAX_STREAMS = 8
# What one padded token needs at most while a batch runs, for each unit of hidden size. Measured:
# 26 KB a token at 212 tokens a text in float32 with MiniLM (hidden 384, intermediate 1536); larger
# backbones need more in proportion.
BYTES_PER_TOKEN_AND_UNIT = 128
# How Python words an OSError in the last line of a process that ended with one.
SYSTEM_ERROR = re.compile(r"\[Errno (\d+)\]")
# A process that exports or quantises for longer than this counts as hanging.
MAKING_S = 3600.0
PRECISION_HINTS = {"bfloat16": "bf16", "float32": "f32"}


class OpenVinoEngine(Engine):
    """Labels texts with an exported graph on the CPU."""

    name = "openvino"
    # A core is nearly as fast with a smaller batch as with a full one, and padding costs it time
    # (docs/performance.md, benchmarks/whole_job.py batches).
    alike = 0.9

    def __init__(
        self,
        folder: Path,
        cache: Path,
        precision: str = "auto",
        threads: int | None = None,
        batch_tokens: int = BATCH_TOKENS,
        calibration: Sequence[str] = (),
        pulse: Pulse = no_pulse,
    ) -> None:
        sha256 = file_sha256(folder / WEIGHTS)
        precision = choose_precision("openvino", precision)
        core = openvino.Core()
        with graphs_in_use(cache):
            exported = exported_graph(folder, cache, pulse)
            if precision == "int8":
                exported = quantised_graph(exported, calibration, pulse)
            with suppress(OSError):  # another user's: that user decides how long it is kept
                os.utime(exported)
            facts = json.loads((exported / "labels.json").read_text(encoding="utf-8"))
            tokenizer = Tokenizer.from_file(
                exported / "tokenizer.json", facts["pad_token_id"], facts["max_tokens"]
            )
            graph = core.read_model(str(exported / "model.xml"))
        drop_old_graphs(cache)
        cores = threads or available_cores()
        streams = min(cores, MAX_STREAMS)
        # Twice the streams: while each stream computes one batch, its next is padded and waits.
        self.in_flight = 2 * streams
        super().__init__(read_model_config(folder), tokenizer, sha256, precision, batch_tokens)
        if precision == "int8":
            self.identity = f"{self.identity} {exported.name}"  # the name holds the calibration
        write_out_attention(graph)
        options = compile_options(precision, cores, streams)
        compiled = with_pulse(pulse, _compiled, core, graph, options)
        self._idle = [compiled.create_infer_request() for _ in range(self.in_flight)]
        self._requests, self._streams = self.in_flight, streams
        self._token_bytes = BYTES_PER_TOKEN_AND_UNIT * facts["hidden_size"]

    def start(self, batch: TokenIds) -> Pending:
        input_ids, mask = self.tokenizer.pad_arrays(batch)
        # Batches under way may not have taken their memory yet. So the memory of all batches that
        # run at once is asked for together.
        at_once = min(self._streams, self._requests - len(self._idle) + 1)
        require_memory(at_once * input_ids.size * self._token_bytes)
        request = self._idle[-1]
        request.start_async([input_ids, mask], share_inputs=True)
        self._idle.pop()  # only now: a request that could not start stays idle

        def finish() -> Forward:
            try:
                request.wait()
                found = {
                    name: request.get_tensor(name).data.copy()  # the request reuses this memory
                    for name in (EMBEDDING_OUTPUT, *(task.name for task in self.config.tasks))
                }
            finally:
                self._idle.append(request)
            return found.pop(EMBEDDING_OUTPUT), found

        return finish


def compile_options(precision: str, cores: int, streams: int) -> dict[str, object]:
    """OpenVINO's options for one engine."""
    # What int8 leaves in floats (norms, softmax, pooling) is computed as it is without int8.
    floats = choose_precision("openvino", "auto") if precision == "int8" else precision
    return {
        "INFERENCE_PRECISION_HINT": PRECISION_HINTS[floats],
        "INFERENCE_NUM_THREADS": cores,
        "NUM_STREAMS": streams,
        # Pinning ties OpenVINO's threads to the first cores: two workers of one core each would
        # share one core (benchmarks/whole_job.py workers).
        "ENABLE_CPU_PINNING": cores >= available_cores(),
    }


def _compiled(core: openvino.Core, graph: Model, options: dict[str, object]) -> CompiledModel:
    """Compile the graph for the CPU, its attention as plain matrix products and softmax.

    OpenVINO's generated code for all of an attention at once ("snippets") is slower on texts of a
    few dozen tokens: without it a core labels 4 to 9 % more rows (docs/performance.md). The option
    is internal to OpenVINO; if a release no longer has it, the graph is compiled without it.
    """
    try:
        return core.compile_model(graph, "CPU", {**options, "SNIPPETS_MODE": "DISABLE"})
    except RuntimeError:
        return core.compile_model(graph, "CPU", options)


def require_memory(size: int) -> None:
    """Check that ``size`` more bytes can be had: ask for them and give them back untouched.

    OpenVINO 2026.4 does not always notice that its own request was refused: under RLIMIT_AS it went
    on with what stood in its buffers and returned wrong labels
    (``test_a_batch_too_large_for_memory_is_halved_and_no_text_lost``). So the system is asked
    beforehand.

    Raises:
        MemoryError: the process may not have that much more.
    """
    try:
        mmap.mmap(-1, size).close()
    except OSError as error:
        raise MemoryError(f"{size >> 20} MB were refused") from error


def exported_graph(folder: Path, cache: Path, pulse: Pulse = no_pulse) -> Path:
    """The folder of a model's exported graph, made now if it is not in the cache.

    Its name holds what the graph depends on: weights, ``config.json`` (labels, temperatures) and
    this software's version.

    Raises:
        ModelError: the model cannot be exported; another attempt would not do better.
        OSError: the cache cannot be written.
        RuntimeError: the exporting process failed in another way, such as by being killed.
    """
    parts = [file_sha256(folder / name)[:12] for name in (WEIGHTS, CONFIG)]
    target = cache / "-".join(["openvino", *parts, __version__])
    if (target / "labels.json").is_file():
        return target
    command = program("mtl_core.engine.export", str(folder), "openvino")
    return _made(target, command, f"{folder} cannot be exported to OpenVINO", pulse)


def quantised_graph(exported: Path, texts: Sequence[str], pulse: Pulse = no_pulse) -> Path:
    """The folder of an exported graph in int8, made now beside it if it is not there.

    Its name holds a hash of the texts it is calibrated on: the same texts give the same graph.

    Raises:
        ModelError: there are no texts, or NNCF is not installed.
        OSError: the folder cannot be written.
        RuntimeError: the quantising process failed in another way.
    """
    if not texts:
        raise ModelError("int8 must be calibrated on texts, and there are none")
    sample = json.dumps(list(texts))
    digest = hashlib.sha256(sample.encode()).hexdigest()[:12]
    target = exported.with_name(f"{exported.name}-int8-{digest}")
    if (target / "labels.json").is_file():
        return target
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        file.write(sample)
        file.flush()
        command = program("mtl_core.engine.quantise", str(exported), file.name)
        return _made(target, command, f"{exported.name} cannot be quantised", pulse)


def _made(target: Path, command: list[str], failure: str, pulse: Pulse) -> Path:
    """Have a process make a folder, which gets the name ``target`` when it is complete.

    Args:
        command: the process; the folder to make is added as its last argument.
        failure: what errors begin with.
    Raises:
        ModelError, OSError: the process ended with such an error.
        RuntimeError: it ended with another one, or did not end.
    """
    building = temporary_beside(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        code, said = _run([*command, str(building)], pulse)
    except BaseException:  # such as the word to stop: nobody would use what was made
        shutil.rmtree(building, ignore_errors=True)
        raise
    if code:
        shutil.rmtree(building, ignore_errors=True)
        reason = (said.strip().splitlines() or [f"exit code {code}"])[-1]
        if code == ModelError.exit_code:
            raise ModelError(f"{failure}: {reason}")
        if system := SYSTEM_ERROR.search(reason):
            raise OSError(int(system[1]), f"{failure}: {reason}")
        raise RuntimeError(f"{failure}: {reason}")
    try:
        building.rename(target)
    except OSError:  # another worker was quicker
        shutil.rmtree(building, ignore_errors=True)
    return target


def _run(command: list[str], pulse: Pulse) -> tuple[int, str]:
    """Run a process, pulsing; return its exit code and what it wrote on standard error.

    The process is killed if the pulse raises an exception.

    Raises:
        RuntimeError: the process took longer than :data:`MAKING_S` and was killed.
    """
    with tempfile.TemporaryFile("w+", errors="replace") as said:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=said
        )
        deadline = time.monotonic() + MAKING_S
        try:
            while process.poll() is None:
                pulse()
                if time.monotonic() > deadline:
                    raise RuntimeError(f"{command[2]} did not end within {MAKING_S:g} s")
                with suppress(subprocess.TimeoutExpired):
                    process.wait(EVERY_S)
        finally:
            process.kill()
            process.wait()
        said.seek(0)
        return process.returncode, said.read()
