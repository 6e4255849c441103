"""PostgreSQL: many machines and many writers; it indexes names where they are and plans by its statistics."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Final
from uuid import UUID

from django.db import connection, transaction

from assets.engines.base import CommitMark, Connection, Engine, Row, Table

_TRIGRAM: Final = 3  # characters
_CONNECT_SECONDS: Final = 2  # of a connection that asks questions
_ADVISORY_LOCK: Final = 0x6E6F6465  # one number for every host that prepares the same database


class PostgreSQL(Engine):
    """The engine of many machines; see `assets.engines.base.Engine`."""

    has_many_writers = True
    # OFFSET keeps the planner from joining in another order, by what it guesses of `f`.
    lookup = "CROSS JOIN LATERAL (SELECT * FROM assets_asset AS b WHERE b.id = f.id OFFSET 0) AS a WHERE TRUE"
    takes_copies = True
    bytewise_collation = "C"
    reads_limited_in_order = False
    position = "strpos"
    hiding = ""
    names = None
    uuid_mark = "%s::uuid"

    def turn(self) -> AbstractContextManager[None]:
        """Nobody waits: its locks are those of rows."""
        return nullcontext()

    def free_turn(self) -> AbstractContextManager[None]:
        """Nobody waits; the block itself skips rows that are locked."""
        return nullcontext()

    @contextmanager
    def moment(self) -> Iterator[None]:
        """Begin a transaction that reads one snapshot."""
        with transaction.atomic(durable=True):
            with connection.cursor() as cursor:
                cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            yield

    def see_one_moment(self) -> None:
        """Keep one snapshot for the whole transaction."""
        with connection.cursor() as cursor:
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")

    @contextmanager
    def turn_of_hosts(self) -> Iterator[None]:
        """Hold a lock of the session: hosts come one after the other."""
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_lock(%s)", [_ADVISORY_LOCK])
        try:
            yield
        finally:
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_advisory_unlock(%s)", [_ADVISORY_LOCK])

    def finds_by_index(self, term: str) -> bool:
        """The index of trigrams has nothing for shorter terms."""
        return len(term) >= _TRIGRAM

    def hex_of(self, column: str) -> str:
        """Take the hyphens out."""
        return f"replace({column}::text, '-', '')"

    def text_of(self, value: UUID) -> str:
        """Write it with its hyphens."""
        return str(value)

    def load(self, table: Table, rows: Iterable[Row]) -> None:
        """Copy the rows in one stream."""
        statement = f"COPY {table.name} ({', '.join(table.columns)}) FROM STDIN"
        with connection.cursor() as cursor, cursor.copy(statement) as copy:
            for row in rows:
                copy.write_row(row)

    def settle(self) -> None:
        """Do what its autovacuum would."""
        with connection.cursor() as cursor:
            cursor.execute("VACUUM ANALYZE")

    @property
    def errors(self) -> type[Exception]:
        """Load the driver only where it is the engine's."""
        import psycopg

        return psycopg.Error

    def connect(self) -> Connection:
        """Connect as Django does, with less patience."""
        import psycopg

        parameters = connection.get_connection_params() | {"connect_timeout": _CONNECT_SECONDS}
        opened: Connection = psycopg.connect(**parameters, autocommit=True)
        return opened

    def commit_mark(self) -> CommitMark:
        """It tells nobody who does not ask."""
        return _unknown

    def of_driver(self, sql: str) -> str:
        """Its marks are Django's."""
        return sql


def _unknown() -> None:
    """Give no mark."""
