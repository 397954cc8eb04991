"""How fast a job advances."""

import time
from collections import deque


class Speed:
    """Rows a second over the last seconds of one job."""

    def __init__(self, window_s: float) -> None:
        self.window_s = window_s
        self._seen: deque[tuple[float, int]] = deque()

    def rate(self, done: int) -> float:
        """Take note of the rows done by now, and return the rows a second."""
        now = time.monotonic()
        self._seen.append((now, done))
        while now - self._seen[0][0] > self.window_s:
            self._seen.popleft()
        elapsed = now - self._seen[0][0]
        return (done - self._seen[0][1]) / elapsed if elapsed > 0 else 0.0
