"""Skips a part that just failed, so that a dead one costs its timeout once in two seconds and not at every call."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final

OPEN_SECONDS: Final = 2.0


class Breaker:
    """Opens for `OPEN_SECONDS` when `tolerance` calls in a row failed; then one caller tries, while the rest skip."""

    def __init__(self, monotonic: Callable[[], float], *, tolerance: int = 1) -> None:
        self._monotonic = monotonic
        self._tolerance = tolerance
        self._failures = 0  # in a row; counted without the lock: one more or less does not matter
        self._open_until = 0.0
        self._lock = threading.Lock()

    def allows(self) -> bool:
        """Tell whether the part may be used now; when it is due again, the first asker is the one who tries."""
        if not self._open_until:
            return True
        with self._lock:
            now = self._monotonic()
            if now < self._open_until:
                return False
            self._open_until = now + OPEN_SECONDS if self._open_until else 0.0
            return True

    def succeeded(self) -> None:
        """Close it: the part works."""
        if self._failures or self._open_until:
            self._failures, self._open_until = 0, 0.0

    def failed(self) -> None:
        """Count a failure, and open it when there were enough of them."""
        self._failures += 1
        if self._failures >= self._tolerance:
            self._open_until = self._monotonic() + OPEN_SECONDS
