"""How many cores this process may use."""

import joblib


def available_cores() -> int:
    """Cores by affinity and by the container's quota (``docker run --cpus``), rounded up."""
    return int(joblib.cpu_count())
