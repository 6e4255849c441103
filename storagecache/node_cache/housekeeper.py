"""One daemon thread per cache for what may come a second later: heartbeats, records, statistics."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final

from storagecache.node_cache.forks import watch_forks

IDLE_TICKS: Final = 30  # without work for as long, the thread ends; the next work starts it again


class Housekeeper:
    """Calls `tick` every `seconds` while there is work; `tick` tells whether there was any, and never raises."""

    def __init__(self, tick: Callable[[], bool], seconds: float) -> None:
        self._tick = tick
        self._seconds = seconds
        self._thread: threading.Thread | None = None
        self.after_fork()
        watch_forks(self)

    def wake(self) -> None:
        """See to it that the thread runs."""
        if self._thread is not None:
            return
        with self._lock:
            if self._thread is None:
                self._closing = False
                self._thread = threading.Thread(target=self._run, name="node-cache-housekeeper", daemon=True)
                self._thread.start()

    def close(self) -> None:
        """End the thread after the tick under way; the next work would start it again."""
        thread, self._closing = self._thread, True
        if thread is not None:
            self._due.set()
            thread.join()

    def after_fork(self) -> None:
        """Begin anew: the thread is the parent's."""
        self._lock = threading.Lock()
        self._closing = False
        self._due = threading.Event()
        self._thread = None

    def _run(self) -> None:
        idle = 0
        while idle < IDLE_TICKS and not self._closing:
            self._due.wait(self._seconds)
            self._due.clear()
            idle = 0 if self._tick() else idle + 1
        self._thread = None
