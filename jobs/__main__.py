"""``python -m jobs``: the same as ``mtl``."""

from jobs.cli import main

if __name__ == "__main__":
    main(prog_name="mtl")
