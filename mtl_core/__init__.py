"""The shared multi-task sentence model: encoder, heads, training, labelling. Knows no queue.

::

    from mtl_core import MultiTaskModel, SentenceEncoder

    encoder = SentenceEncoder.from_backbone()      # all-MiniLM-L6-v2, projection not yet trained
    model = MultiTaskModel.from_pretrained()       # the shipped model
    vectors = model.encode(["A dull film.", "A superb one."])   # float32 [2, 256], unit length
    model.predict(["A dull film."])                # [{"topic": "World", "topic_score": 0.6, ...}]
"""

from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mtl_core.model.encoder import SentenceEncoder
    from mtl_core.model.network import MultiTaskModel

__all__ = ["MultiTaskModel", "SentenceEncoder", "__version__"]

try:
    __version__ = version("mtl-batch")
except PackageNotFoundError:  # run from a folder that was never installed
    __version__ = "0+unknown"


def __getattr__(name: str) -> Any:
    # Not imported above: they load torch, which most commands do not need.
    if name in ("MultiTaskModel", "SentenceEncoder"):
        from mtl_core.model import network

        return getattr(network, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
