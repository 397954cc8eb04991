"""How many cores this process may use."""

import joblib


def available_cores() -> int:
    """Cores that affinity and the container's quota (``docker run --cpus``) allow, rounded up."""
    return int(joblib.cpu_count())
