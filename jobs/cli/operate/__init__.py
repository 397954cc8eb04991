"""The commands of section Operate in ``mtl --help``."""
