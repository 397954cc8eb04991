"""The software that decides a run's numbers, for its card."""

import platform
from importlib.metadata import version


def software_versions() -> dict[str, str]:
    """Versions of the software that decides a run's numbers."""
    return {
        "python": platform.python_version(),
        **{name: version(name) for name in ("torch", "transformers", "tokenizers")},
    }
