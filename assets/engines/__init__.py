"""What differs between the databases that may hold the catalog; nothing outside of this room asks which one it is.

Services ask `engine()` for the little that differs and write everything else once, for all of them. An engine knows
tables and SQL, and no model. The backend `storagecache.sqlite` and its lock are one floor below.
"""

from __future__ import annotations

from typing import Final

from django.db import connection
from django.db.backends.base.base import BaseDatabaseWrapper

from assets.engines.base import CommitMark, Connection, Engine, Name, NameIndex, NamesWanted, Row, Table
from assets.engines.postgresql import PostgreSQL
from assets.engines.sqlite import SQLite

__all__ = [
    "CommitMark",
    "Connection",
    "Engine",
    "Name",
    "NameIndex",
    "NamesWanted",
    "Row",
    "Table",
    "engine",
    "engine_of",
]

_ENGINES: Final[dict[str, Engine]] = {"sqlite": SQLite(), "postgresql": PostgreSQL()}


def engine() -> Engine:
    """Give the engine that holds the catalog."""
    return engine_of(connection)


def engine_of(database: BaseDatabaseWrapper) -> Engine:
    """Give the engine behind a connection of Django's."""
    return _ENGINES[database.vendor]
