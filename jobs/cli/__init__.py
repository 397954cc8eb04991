"""The command line: a folder a section of ``mtl --help``, a module a command."""
