"""A bounded pool of SQLite connections for the threads of one process.

Opening a connection costs a millisecond and each one holds up to 4 MB of page cache; 600 threads with one
each cost 1.3 GB. Here a thread borrows one for as long as it asks questions, never while bytes flow.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
import weakref
from collections.abc import Callable


class PooledConnection(sqlite3.Connection):
    """A connection that can be watched: sqlite3's own takes no weak references."""


class ConnectionPool:
    """Lends at most `size` connections; keeps those that come back. Thread-safe and fork-safe."""

    def __init__(self, size: int) -> None:
        self._pid = os.getpid()
        self._size = size
        self._inherited: list[object] = []
        self._reset()

    def _reset(self) -> None:
        """Forget everything: a connection must not cross a fork (https://www.sqlite.org/howtocorrupt.html)."""
        self._pid = os.getpid()
        self._free: list[PooledConnection] = []
        self._slots = threading.BoundedSemaphore(self._size)
        self._leases: dict[int, weakref.finalize[..., PooledConnection]] = {}

    def take(self, connect: Callable[[], PooledConnection], *, wait: float) -> PooledConnection:
        """Lend a connection, made by `connect` when none is free.

        A borrower that dies without giving its connection back frees the slot by garbage collection.

        Raises:
            sqlite3.OperationalError: none came free within `wait` seconds.
        """
        if self._pid != os.getpid():
            # Kept, so that nothing closes them here: a close in the child may end what the parent still uses.
            self._inherited += [self._free, self._leases]
            self._reset()
        slots = self._slots
        if not slots.acquire(timeout=wait):
            raise sqlite3.OperationalError(f"no free connection within {wait:g} s")
        try:
            connection = self._free_one() or connect()
        except BaseException:
            slots.release()
            raise
        self._leases[id(connection)] = weakref.finalize(connection, slots.release)
        return connection

    def _free_one(self) -> PooledConnection | None:
        with contextlib.suppress(IndexError):  # another thread was faster
            return self._free.pop()
        return None

    def give_back(self, connection: PooledConnection) -> None:
        """Take a connection back; one with an open transaction is rolled back."""
        lease = self._leases.pop(id(connection), None)
        if lease is None:  # given back before, or lent by the parent of a fork
            self._inherited.append(connection)
            return
        if connection.in_transaction:
            connection.rollback()
        self._free.append(connection)
        lease()

    def close(self) -> None:
        """Close every connection that is not lent."""
        while self._free:
            self._free.pop().close()
