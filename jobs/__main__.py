"""``python -m jobs``: the same as ``mtl``."""

from jobs.entry import main

if __name__ == "__main__":
    main()
