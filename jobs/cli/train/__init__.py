"""The commands of section Train in ``mtl --help``."""
