"""What an address serves now, asked below Django: a few connections of its own, one SELECT a question, no ORM.

It reads only; nothing is remembered between two questions. Whoever cannot be answered here asks `reading.locate`, so
that every fault of this shorter way makes the service slower and nothing else.
"""

from __future__ import annotations

import contextlib
import queue
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Protocol

from django.db import connection as catalog

from assets.services.reading import locating_sql
from storagecache.errors import BackendUnavailableError

CONNECTIONS: Final = 2  # per process
WAIT: Final = 1.0  # seconds until a question without a free connection is given up
REST: Final = 1.0  # seconds without a try after the catalog could not be reached
CACHE_KIB: Final = 4000  # of pages, for each SQLite connection
_CONNECT_SECONDS: Final = 2

Row = tuple[Any, ...]  # the columns of `reading`, of types that differ between the engines


class Cursor(Protocol):
    """What a question gives, as both engines' connections have it."""

    def fetchone(self) -> Row | None:
        """Give the next row."""
        ...


class Connection(Protocol):
    """As much of a connection as is needed here."""

    def execute(self, query: Any, parameters: Any, /) -> Cursor:
        """Run one statement."""
        ...

    def close(self) -> None:
        """Hang up."""
        ...


class Lookups:
    """Answers what is at an address; thread-safe. Connections are made when first needed, after any fork."""

    def __init__(self, connect: Callable[[], Connection], sql: str, errors: type[Exception]) -> None:
        """`sql` takes bucket and key; `errors` is what `connect` and the connections raise."""
        self._connect = connect
        self._sql = sql
        self._errors = errors
        self._slots: queue.SimpleQueue[Connection | None] = queue.SimpleQueue()
        self._rests_until = 0.0  # time.monotonic()
        for _ in range(CONNECTIONS):
            self._slots.put(None)

    @classmethod
    def of_catalog(cls) -> Lookups:
        """Ask the catalog that Django is configured for."""
        sql = locating_sql(catalog.vendor)
        if catalog.vendor == "sqlite":
            return cls(_sqlite, sql.replace("%s", "?"), sqlite3.Error)
        import psycopg  # only where it is the engine

        return cls(_postgresql, sql, psycopg.Error)

    def row(self, bucket: str, key: str) -> Row | None:
        """Give the row of the asset that answers at an address, expired or not; costs one SELECT.

        Raises:
            BackendUnavailableError: the catalog does not answer, or all connections are in use.
        """
        connection = self._borrow()
        try:
            connection = connection or self._new()
            return connection.execute(self._sql, (bucket, key)).fetchone()
        except BaseException as error:
            _hang_up(connection)
            connection = None  # one that failed is not used again
            if isinstance(error, self._errors):
                raise BackendUnavailableError("The catalog does not answer.") from error
            raise
        finally:
            self._slots.put(connection)

    def close(self) -> None:
        """Close the connections that are not in use; new ones are made when needed."""
        for _ in range(CONNECTIONS):
            with contextlib.suppress(queue.Empty):
                _hang_up(self._slots.get_nowait())
                self._slots.put(None)

    def _borrow(self) -> Connection | None:
        try:
            return self._slots.get(timeout=WAIT)
        except queue.Empty:
            raise BackendUnavailableError("Every connection to the catalog is in use.") from None

    def _new(self) -> Connection:
        if time.monotonic() < self._rests_until:
            raise BackendUnavailableError("The catalog did not answer a moment ago.")
        try:
            return self._connect()
        except self._errors:
            self._rests_until = time.monotonic() + REST
            raise


def _hang_up(connection: Connection | None) -> None:
    if connection is not None:
        with contextlib.suppress(Exception):  # it is of no use any more, whatever it says
            connection.close()


def _sqlite() -> Connection:
    """Open the catalog's file, which must be there, for questions only."""
    place = Path(str(catalog.settings_dict["NAME"])).absolute().as_uri()
    opened = sqlite3.connect(f"{place}?mode=rw", uri=True, isolation_level=None, check_same_thread=False, timeout=WAIT)
    opened.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
    opened.execute("PRAGMA query_only = ON")
    return opened


def _postgresql() -> Connection:
    import psycopg

    parameters = catalog.get_connection_params() | {"connect_timeout": _CONNECT_SECONDS}
    connection: Connection = psycopg.connect(**parameters, autocommit=True)
    return connection
