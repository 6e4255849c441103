"""The database backend `storagecache.sqlite`: Django's own, borrowing its connections from a pool.

`OPTIONS["pool_size"]` bounds the connections of a process. `close()` gives the connection back, so it is
cheap to call before bytes flow. In-memory databases are not pooled.
"""

from __future__ import annotations

import functools
from typing import Any

from django.db.backends.sqlite3 import base, creation

from storagecache.sqlite.pool import ConnectionPool, PooledConnection


@functools.cache
def pool_of(database: str, size: int) -> ConnectionPool:
    """Give the pool of one database file in this process."""
    return ConnectionPool(size)


class DatabaseCreation(creation.DatabaseCreation):
    """Closes the pool before a test database is removed."""

    connection: DatabaseWrapper

    def _destroy_test_db(self, test_database_name: str, verbosity: int) -> None:
        self.connection.close()
        pool_of(str(test_database_name), self.connection.pool_size).close()
        super()._destroy_test_db(test_database_name, verbosity)  # type: ignore[misc]  # not in the stubs


class DatabaseWrapper(base.DatabaseWrapper):
    """Django's SQLite wrapper with pooled connections."""

    creation_class = DatabaseCreation

    @property
    def pool_size(self) -> int:
        """The most connections this process opens."""
        return int(self.settings_dict["OPTIONS"].get("pool_size", 4))

    def get_connection_params(self) -> dict[str, Any]:
        """Give what sqlite3.connect takes."""
        parameters: dict[str, Any] = super().get_connection_params()
        parameters.pop("pool_size", None)
        return {**parameters, "factory": PooledConnection}

    def get_new_connection(self, conn_params: dict[str, Any]) -> PooledConnection:
        """Borrow a connection."""
        connect = functools.partial(super().get_new_connection, conn_params)
        if self.is_in_memory_db():
            connection: PooledConnection = connect()
            return connection
        return self._pool.take(connect, wait=float(conn_params.get("timeout", 20)))

    def _close(self) -> None:
        if self.connection is None or self.is_in_memory_db():
            super()._close()  # type: ignore[misc]  # not in the stubs
            return
        self._pool.give_back(self.connection)

    @property
    def _pool(self) -> ConnectionPool:
        return pool_of(str(self.settings_dict["NAME"]), self.pool_size)
