"""Which encoder a model has: two models with the same one give the same embeddings."""

import hashlib
import json
from pathlib import Path

from safetensors import SafetensorError, safe_open

from mtl_core.errors import ModelError
from mtl_core.model.config import WEIGHTS, read_model_config

ENCODER_PREFIX = "encoder."


def encoder_sha256(folder: Path) -> str:
    """SHA-256 of all that decides a model's embeddings: its weights but for the heads.

    That is the backbone's own SHA-256, which of its layers are kept, how many tokens are read, and
    every stored tensor of the encoder.

    Raises:
        ModelError: the directory is incomplete or damaged.
    """
    config = read_model_config(folder)
    made_of = [config.backbone_sha256, config.layers_kept, config.embedding_size, config.max_tokens]
    digest = hashlib.sha256(json.dumps([config.backbone, *made_of]).encode())
    try:
        with safe_open(str(folder / WEIGHTS), framework="np") as stream:
            for name in sorted(stream.keys()):
                if name.startswith(ENCODER_PREFIX):
                    tensor = stream.get_tensor(name)
                    digest.update(f"{name} {tensor.dtype} {tensor.shape}".encode())
                    digest.update(tensor.tobytes())
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{folder / WEIGHTS} cannot be read: {error}") from error
    return digest.hexdigest()
