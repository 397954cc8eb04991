"""The shared multi-task sentence model: encoder, heads, training, labelling. Knows no queue."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("mtl-batch")
except PackageNotFoundError:  # run from a folder that was never installed
    __version__ = "0+unknown"
