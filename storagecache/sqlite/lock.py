"""The lock that writers of one SQLite database share, among threads and processes.

SQLite lets one writer in at a time and makes the others sleep and retry, which starves some of them for
seconds. Queueing before BEGIN IMMEDIATE keeps the slowest writer near the mean.
"""

from __future__ import annotations

import fcntl
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from storagecache.errors import BackendUnavailableError
from storagecache.storages.durable import disk_errors

WAIT: Final = 20.0  # seconds until a writer gives up
_POLL: Final = 0.001  # seconds between two looks at a lock that another process holds


class WriteLock:
    """A lock with two stages: one thread of each process, then one process. Reentrant in a thread."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._threads = threading.RLock()
        self._depth = 0

    @contextmanager
    def hold(self, *, wait: float = WAIT) -> Iterator[None]:
        """Hold the lock inside the block.

        Raises:
            BackendUnavailableError: not free within `wait` seconds, or its file cannot be opened.
            StorageFullError: there is no room for its file.
        """
        until = time.monotonic() + wait
        if not self._threads.acquire(timeout=wait):
            raise _busy(wait)
        try:
            if self._depth:
                yield from self._nested()
                return
            with _file_lock(self._path, until, wait):
                yield from self._nested()
        finally:
            self._threads.release()

    def _nested(self) -> Iterator[None]:
        self._depth += 1
        try:
            yield
        finally:
            self._depth -= 1


@contextmanager
def _file_lock(path: str, until: float, wait: float) -> Iterator[None]:
    # A descriptor of its own for each holder: the kernel frees the lock when the process dies.
    with disk_errors("Cannot take the turn to write into the catalog"):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        while not _try_lock(descriptor):
            if time.monotonic() > until:
                raise _busy(wait)
            time.sleep(_POLL)
        yield
    finally:
        os.close(descriptor)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _busy(wait: float) -> BackendUnavailableError:
    return BackendUnavailableError(f"The catalog is busy: no turn to write within {wait:g} s. Try again.")
