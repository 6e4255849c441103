"""What an address serves now, asked below Django: a few connections of its own, one SELECT a question, no ORM.

It reads only. An answer is given again without asking only while the engine tells that nothing was committed since.
Whoever cannot be answered here asks `reading.locate`, so that every fault of this shorter way makes the service slower
and nothing else.
"""

from __future__ import annotations

import contextlib
import functools
import queue
import time
from collections.abc import Callable
from typing import Final

from assets.engines import CommitMark, Connection, Row, engine
from assets.services.reading import locating_sql
from storagecache.errors import BackendUnavailableError

CONNECTIONS: Final = 2  # per process
WAIT: Final = 1.0  # seconds until a question without a free connection is given up
KEPT: Final = 4096  # answers that are kept until something is committed
REST: Final = 1.0  # seconds without a try after the catalog could not be reached


class Lookups:
    """Answers what is at an address; thread-safe. Connections are made when first needed, after any fork."""

    def __init__(
        self, connect: Callable[[], Connection], sql: str, errors: type[Exception], commit_mark: CommitMark
    ) -> None:
        """`sql` takes bucket and key; `errors` is what `connect` and the connections raise."""
        self._connect = connect
        self._sql = sql
        self._errors = errors
        self._commit_mark = commit_mark
        self._row_since = functools.lru_cache(maxsize=KEPT)(self._asked_since)
        self._slots: queue.SimpleQueue[Connection | None] = queue.SimpleQueue()
        self._rests_until = 0.0  # time.monotonic()
        for _ in range(CONNECTIONS):
            self._slots.put(None)

    @classmethod
    def of_catalog(cls) -> Lookups:
        """Ask the catalog that Django is configured for."""
        catalog = engine()
        return cls(catalog.connect, catalog.of_driver(locating_sql()), catalog.errors, catalog.commit_mark())

    def row(self, bucket: str, key: str) -> Row | None:
        """Give the row of the asset that answers at an address, expired or not.

        Costs one SELECT, or none where nothing was committed since the last one about this address.

        Raises:
            BackendUnavailableError: the catalog does not answer, or all connections are in use.
        """
        mark = self._commit_mark()  # before the question: what is committed meanwhile makes the answer too new for it
        return self._asked(bucket, key) if mark is None else self._row_since(mark, bucket, key)

    def _asked_since(self, _mark: bytes, bucket: str, key: str) -> Row | None:
        return self._asked(bucket, key)

    def _asked(self, bucket: str, key: str) -> Row | None:
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
