"""The short sections in which services write rows: one transaction each, and never around bytes."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager

from django.db import InterfaceError, OperationalError, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from storagecache.errors import BackendUnavailableError
from storagecache.sqlite.lock import WriteLock


@contextmanager
def write_section() -> Iterator[None]:
    """Run the block in a transaction of its own, queued before other writers on SQLite.

    Durable: when the block ends the rows are committed. It refuses to run inside somebody's transaction, because
    bytes written between two sections would then have no committed row.

    Raises:
        BackendUnavailableError: the database is busy or gone.
        RuntimeError: called inside a transaction.
    """
    connection = transaction.get_connection()
    with catalog_errors():
        if connection.vendor != "sqlite":
            with transaction.atomic(durable=True):
                yield
            return
        release_connection()  # others may use it while this thread queues
        with _lock_of(str(connection.settings_dict["NAME"])).hold(), transaction.atomic(durable=True):
            yield


@contextmanager
def spare_section() -> Iterator[None]:
    """Run the block in a transaction of its own only when no writer is at it, for notes that a later call can make.

    It never waits in the queue of SQLite's writers; on PostgreSQL the block itself skips rows that are locked.

    Raises:
        BackendUnavailableError: somebody else writes, or the database is gone.
    """
    connection = transaction.get_connection()
    with catalog_errors():
        if connection.vendor != "sqlite":
            with transaction.atomic(durable=True):
                yield
            return
        lock = _lock_of(str(connection.settings_dict["NAME"]))
        with lock.hold(wait=0), _impatient(connection), transaction.atomic(durable=True):
            yield


@contextmanager
def reading_section() -> Iterator[None]:
    """Let every statement of the block see the catalog as it is at one moment. Nobody waits for it, nor it for anybody.

    Raises:
        BackendUnavailableError: the database is gone.
    """
    connection = transaction.get_connection()
    with catalog_errors():
        if connection.vendor == "sqlite":
            with _deferred(connection):
                yield
            return
        with transaction.atomic(durable=True):
            with connection.cursor() as cursor:
                cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            yield


@contextmanager
def _deferred(connection: BaseDatabaseWrapper) -> Iterator[None]:
    """Begin a transaction that takes no lock of a writer, which is what Django's own begin with on SQLite here."""
    with connection.cursor() as cursor:
        cursor.execute("BEGIN DEFERRED")
    try:
        yield
    finally:
        with connection.cursor() as cursor:
            cursor.execute("ROLLBACK")  # nothing was written


@contextmanager
def _impatient(connection: BaseDatabaseWrapper) -> Iterator[None]:
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


@contextmanager
def catalog_errors() -> Iterator[None]:
    """Translate a database that is busy or gone.

    Raises:
        BackendUnavailableError
    """
    try:
        yield
    except (OperationalError, InterfaceError) as error:
        raise BackendUnavailableError("The catalog does not answer. Try again.") from error


def release_connection() -> None:
    """Give this thread's database connection back, unless a transaction holds it. Before bytes flow, call this."""
    connection = transaction.get_connection()
    if not connection.in_atomic_block:
        connection.close()


@functools.cache
def _lock_of(database: str) -> WriteLock:
    return WriteLock(f"{database}.lock")
