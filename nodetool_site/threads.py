"""Threads that are started when needed, used again latest first, and end when idle. Knows nothing of HTTP.

The order matters: where idle threads take turns, hundreds of them stay warm for nothing, and small answers come half as
fast as from the few that were used last (docs/decisions/0002-web-server.md).
"""

from __future__ import annotations

import logging
import queue
import threading
from collections import deque
from collections.abc import Callable

logger = logging.getLogger(__name__)

Work = Callable[[], object]


class ThreadStack:
    """Runs work on at most `most` daemon threads; more work waits its turn. Thread-safe."""

    def __init__(self, most: int, *, idle: float = 10.0) -> None:
        """`idle` is the seconds after which a thread without work ends."""
        self._most = most
        self._patience = idle
        self._lock = threading.Lock()
        self._count = 0
        self._idle: list[queue.SimpleQueue[Work]] = []  # the inbox of each, the latest used last
        self._waiting: deque[Work] = deque()

    @property
    def count(self) -> int:
        """How many threads there are."""
        return self._count

    def run(self, work: Work) -> None:
        """Let a thread do the work soon; what it raises is logged. Where no new one may start, the caller's does it."""
        with self._lock:
            inbox = self._idle.pop() if self._idle else None
            if inbox is None and self._count >= self._most:
                self._waiting.append(work)
                return
            if inbox is None:
                self._count += 1
        if inbox is None:
            inbox = queue.SimpleQueue()
            if not self._start(inbox):
                _do(work)
                return
        inbox.put(work)

    def _start(self, inbox: queue.SimpleQueue[Work]) -> bool:
        """Start a thread that was counted; False where the machine allows no more."""
        try:
            threading.Thread(target=self._work, args=(inbox,), name="transfer", daemon=True).start()
        except (RuntimeError, MemoryError):
            logger.exception("no thread could be started threads=%d", self._count)
            with self._lock:
                self._count -= 1
            return False
        return True

    def _work(self, inbox: queue.SimpleQueue[Work]) -> None:
        work: Work | None = inbox.get()
        while work is not None:
            _do(work)
            del work  # it may hold a request, and a thread may stay idle for long
            work = self._next(inbox)

    def _next(self, inbox: queue.SimpleQueue[Work]) -> Work | None:
        """Give the next work; None when it is time to end."""
        with self._lock:
            if self._waiting:
                return self._waiting.popleft()
            self._idle.append(inbox)
        try:
            return inbox.get(timeout=self._patience)
        except queue.Empty:
            return inbox.get() if not self._retire(inbox) else None

    def _retire(self, inbox: queue.SimpleQueue[Work]) -> bool:
        """Take a thread off the stack; False when somebody just chose it."""
        with self._lock:
            if inbox not in self._idle:
                return False
            self._idle.remove(inbox)
            self._count -= 1
            return True


def _do(work: Work) -> None:
    try:
        work()
    except BaseException:  # a panic of the server's too: whatever it is, it must not end the thread, which is counted
        logger.exception("work of a thread failed")
