"""A limit on how many bytes pass in a second, for all who share it."""

from __future__ import annotations

import threading
import time


class Throttle:
    """Lets ``rate`` bytes a second pass, or all there are where that is None."""

    def __init__(self, rate: int | None) -> None:
        self._rate = rate
        self._lock = threading.Lock()
        self._free = 0.0  # when the next byte may pass, on the monotonic clock

    def wait(self, count: int) -> None:
        """Return when ``count`` bytes may pass."""
        if self._rate is None:
            return
        with self._lock:
            now = time.monotonic()
            self._free = max(self._free, now) + count / self._rate
            seconds = self._free - now
        time.sleep(seconds)
