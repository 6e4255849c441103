"""SQLite: one machine, and one writer at a time, in a queue of ours; a table beside the assets finds their names."""

from __future__ import annotations

import functools
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import datetime
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from django.db import connection

from assets.engines.base import CommitMark, Connection, Engine, Row, Table
from assets.engines.trigrams import TrigramTable
from storagecache.sqlite.lock import WriteLock
from storagecache.sqlite.wal_index import WalIndex

_WAIT: Final = 1.0  # seconds until a question gives up a locked file
_CACHE_KIB: Final = 4000  # of pages, for each connection that asks questions


class SQLite(Engine):
    """The engine of one machine; see `assets.engines.base.Engine`."""

    has_many_writers = False
    # CROSS JOIN keeps the order of the tables (https://www.sqlite.org/optoverview.html, 8.2).
    lookup = "CROSS JOIN assets_asset AS a WHERE a.id = f.id"
    takes_copies = False
    bytewise_collation = None
    # Such a subquery is never flattened (https://www.sqlite.org/optoverview.html, 11) and runs beside what reads it.
    reads_limited_in_order = True
    position = "instr"
    hiding = "+"  # https://www.sqlite.org/optoverview.html, 3
    names = TrigramTable()
    uuid_mark = "%s"
    errors = sqlite3.Error

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Queue before other threads and processes: SQLite itself lets some of them starve."""
        if not connection.in_atomic_block:
            connection.close()  # others may use it while this thread queues
        with _lock_of(_file()).hold():
            yield

    @contextmanager
    def free_turn(self) -> Iterator[None]:
        """Take the turn only when nobody has it, nor a writer that knows nothing of our lock."""
        with _lock_of(_file()).hold(wait=0), _impatient():
            yield

    @contextmanager
    def moment(self) -> Iterator[None]:
        """Begin a transaction that takes no lock of a writer, which is what Django's own begin with on SQLite here."""
        with connection.cursor() as cursor:
            cursor.execute("BEGIN DEFERRED")
        try:
            yield
        finally:
            with connection.cursor() as cursor:
                cursor.execute("ROLLBACK")  # nothing was written

    def see_one_moment(self) -> None:
        """Nobody else writes meanwhile."""

    def turn_of_hosts(self) -> AbstractContextManager[None]:
        """No other host has the file."""
        return nullcontext()

    def finds_by_index(self, term: str) -> bool:
        """Only `names` does."""
        return False

    def hex_of(self, column: str) -> str:
        """Django keeps UUIDs as such text."""
        return column

    def text_of(self, value: UUID) -> str:
        """Write the 32 hex digits."""
        return value.hex

    def load(self, table: Table, rows: Iterable[Row]) -> None:
        """Run one prepared INSERT for each row."""
        places = ", ".join(["%s"] * len(table.columns))
        statement = f"INSERT INTO {table.name} ({', '.join(table.columns)}) VALUES ({places})"  # noqa: S608  # ours
        with connection.cursor() as cursor:
            cursor.executemany(statement, [[_stored(value) for value in row] for row in rows])

    def settle(self) -> None:
        """Its planner goes without statistics here."""

    def connect(self) -> Connection:
        """Open the catalog's file, which must be there."""
        return _opened(_file())

    def commit_mark(self) -> CommitMark:
        """Look at the index of its log."""
        return _index_of(_file()).mark

    def of_driver(self, sql: str) -> str:
        """Write question marks."""
        return sql.replace("%s", "?")


def _file() -> str:
    return str(connection.settings_dict["NAME"])


@functools.cache
def _lock_of(database: str) -> WriteLock:
    return WriteLock(f"{database}.lock")


@functools.cache
def _index_of(database: str) -> WalIndex:
    return WalIndex(database, functools.partial(_opened, database))


def _opened(database: str) -> sqlite3.Connection:
    place = Path(database).absolute().as_uri()
    opened = sqlite3.connect(f"{place}?mode=rw", uri=True, isolation_level=None, check_same_thread=False, timeout=_WAIT)
    opened.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
    opened.execute("PRAGMA query_only = ON")
    return opened


@contextmanager
def _impatient() -> Iterator[None]:
    """Let SQLite say at once that another writer is at it, one that knows nothing of our lock."""
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA busy_timeout")
        patience = int(cursor.fetchone()[0])
        cursor.execute("PRAGMA busy_timeout = 0")
    try:
        yield
    finally:
        with connection.cursor() as cursor:
            cursor.execute(f"PRAGMA busy_timeout = {patience}")


def _stored(value: Any) -> Any:
    """Write a value as Django's fields would."""
    if isinstance(value, UUID):
        return value.hex
    return str(value.replace(tzinfo=None)) if isinstance(value, datetime) else value
