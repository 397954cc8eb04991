"""The commands of section Label in ``mtl --help``."""
