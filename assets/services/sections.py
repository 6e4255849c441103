"""The short sections in which services write rows: one transaction each, and never around bytes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from django.db import InterfaceError, OperationalError, transaction

from assets.engines import engine
from storagecache.errors import BackendUnavailableError


@contextmanager
def write_section() -> Iterator[None]:
    """Run the block in a transaction of its own, queued before other writers on SQLite.

    Durable: when the block ends the rows are committed. It refuses to run inside somebody's transaction, because
    bytes written between two sections would then have no committed row.

    Raises:
        BackendUnavailableError: the database is busy or gone.
        RuntimeError: called inside a transaction.
    """
    with catalog_errors(), engine().turn(), transaction.atomic(durable=True):
        yield


@contextmanager
def spare_section() -> Iterator[None]:
    """Run the block in a transaction of its own only when no writer is at it, for notes that a later call can make.

    It never waits in the queue of SQLite's writers; on PostgreSQL the block itself skips rows that are locked.

    Raises:
        BackendUnavailableError: somebody else writes, or the database is gone.
    """
    with catalog_errors(), engine().free_turn(), transaction.atomic(durable=True):
        yield


@contextmanager
def reading_section() -> Iterator[None]:
    """Let every statement of the block see the catalog as it is at one moment. Nobody waits for it, nor it for anybody.

    Raises:
        BackendUnavailableError: the database is gone.
    """
    with catalog_errors(), engine().moment():
        yield


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
