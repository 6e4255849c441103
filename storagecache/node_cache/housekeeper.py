"""One daemon thread per cache for what may come a second later: heartbeats, records, statistics, trimming."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Final

IDLE_TICKS: Final = 30  # without work for as long, the thread ends; the next work starts it again


class Housekeeper:
    """Calls `tick` every `seconds` while there is work; `tick` tells whether there was any, and never raises."""

    def __init__(self, tick: Callable[[], bool], seconds: float) -> None:
        self._tick = tick
        self._seconds = seconds
        self._reset()
        os.register_at_fork(after_in_child=self._reset)

    def wake(self) -> None:
        """See to it that the thread runs."""
        if self._thread is not None:
            return
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="node-cache-housekeeper", daemon=True)
                self._thread.start()

    def hurry(self) -> None:
        """Let the next tick come at once."""
        self.wake()
        self._due.set()

    def _reset(self) -> None:
        self._lock = threading.Lock()
        self._due = threading.Event()
        self._thread: threading.Thread | None = None

    def _run(self) -> None:
        idle = 0
        while idle < IDLE_TICKS:
            self._due.wait(self._seconds)
            self._due.clear()
            idle = 0 if self._tick() else idle + 1
        self._thread = None
