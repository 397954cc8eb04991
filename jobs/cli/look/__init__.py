"""The commands of section Look in ``mtl --help``."""
