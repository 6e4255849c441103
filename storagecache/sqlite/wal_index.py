"""Whether anything was committed to an SQLite database since a moment, told without a question to it.

In WAL mode every commit, of whichever process, rewrites the header of the WAL index, the file `-shm`: a counter, salts
and the checksum of all frames (https://www.sqlite.org/walformat.html, 2.1). SQLite itself tells by it whether what a
connection remembers is still true, and so do we: one read of 96 bytes.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Callable
from typing import Final

_HEADER: Final = 48  # bytes; there are two copies, of which a writer changes the second first
_IS_INIT: Final = 12  # the byte in it that is 0 while the index is made anew
_REST: Final = 1.0  # seconds without a try after the index could not be opened


class WalIndex:
    """Reads the mark of the last commit of one database; thread-safe, for one process."""

    def __init__(self, database: str, connect: Callable[[], sqlite3.Connection]) -> None:
        """`connect` opens a connection of its own to the database; nothing is opened before the first look."""
        self._index = f"{os.path.realpath(database)}-shm"
        self._connect = connect
        self._lock = threading.Lock()
        self._rests_until = 0.0  # time.monotonic()
        self._connection: sqlite3.Connection | None = None
        self._descriptor = -1

    def mark(self) -> bytes | None:
        """Give the mark: as long as it is the same, nothing has been committed. None: it cannot be told."""
        if self._descriptor < 0 and not self._begin():
            return None
        found = os.pread(self._descriptor, 2 * _HEADER, 0)
        mark = found[:_HEADER]
        return mark if mark == found[_HEADER:] and len(mark) == _HEADER and mark[_IS_INIT] else None

    def _begin(self) -> bool:
        """Open the index, once.

        The connection stays for as long as the process: with one open, nobody removes the index and makes another. So
        does the descriptor: closing one takes away the locks that SQLite holds on that file in this process
        (https://www.sqlite.org/howtocorrupt.html, 2.2).
        """
        with self._lock:
            if self._descriptor < 0 and time.monotonic() >= self._rests_until:
                self._rests_until = time.monotonic() + _REST
                try:
                    self._open()
                except (sqlite3.Error, OSError):
                    return False  # then every question is asked
            return self._descriptor >= 0

    def _open(self) -> None:
        if self._connection is None:
            self._connection = self._connect()
        (mode,) = self._connection.execute("PRAGMA journal_mode").fetchone()
        self._connection.execute("SELECT 1 FROM sqlite_schema LIMIT 1").fetchone()  # from here on it has the index open
        if mode == "wal":
            self._descriptor = os.open(self._index, os.O_RDONLY | os.O_CLOEXEC)
