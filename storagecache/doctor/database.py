"""The catalog's database: it answers, is new enough, is migrated, and has what search needs. Knows no model."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from django.core.exceptions import ImproperlyConfigured
from django.db import DatabaseError, connection
from django.db.migrations.executor import MigrationExecutor

from storagecache.doctor.registry import FILE_PERMISSIONS, Outcome, failed, ok, part, warning
from storagecache.environment import Environment

_OLDEST_POSTGRES: Final = 15
_CONNECT_SECONDS: Final = 5
_EXTENSIONS: Final = ("pg_trgm",)
_MIGRATE: Final = "Run `manage.py prepare` (the service does so when it starts)."


@part("database", seconds=30)
def try_database(environment: Environment) -> Iterator[Outcome]:
    """Ask the catalog."""
    tried = f"the catalog answers ({connection.vendor})"
    if connection.vendor == "sqlite" and not _file().exists():  # looking must not make it
        yield warning(tried, f"There is no catalog at {_file()} yet.", _MIGRATE)
        return
    try:
        _connect()
    except (DatabaseError, ImproperlyConfigured, OSError) as error:
        yield failed(tried, f"{type(error).__name__}: {str(error).strip()}", _where(environment))
        return
    yield ok(tried)
    yield from (_try_postgres() if connection.vendor == "postgresql" else _try_sqlite())
    yield _try_migrations()


def _connect() -> None:
    """Connect, for PostgreSQL first without the pool, which would try again and again and not say why."""
    if connection.vendor == "postgresql":
        import psycopg  # not needed with SQLite

        parameters = connection.get_connection_params() | {"connect_timeout": _CONNECT_SECONDS}
        with connection.wrap_database_errors:
            psycopg.connect(**parameters).close()
    connection.ensure_connection()


def _where(environment: Environment) -> str:
    if environment.database_url:
        source = environment.source_of("DATABASE_URL")
        return f"Check that the server runs, and host, user and password in DATABASE_URL (from {source})."
    return f"Check {environment.catalog_path} and its folder: the service has to write both. DB_PATH moves it."


def _try_postgres() -> Iterator[Outcome]:
    tried = f"PostgreSQL is {_OLDEST_POSTGRES} or newer"
    version: int = getattr(connection, "pg_version", 0)
    if version // 10_000 < _OLDEST_POSTGRES:
        yield failed(tried, f"It is version {version // 10_000}.", f"Upgrade it to {_OLDEST_POSTGRES} or newer.")
    else:
        yield ok(tried, f"version {version // 10_000}")
    with connection.cursor() as cursor:
        cursor.execute("SELECT extname FROM pg_extension")
        found = {name for (name,) in cursor.fetchall()}
    for name in _EXTENSIONS:
        yield _extension(name, present=name in found)


def _extension(name: str, *, present: bool) -> Outcome:
    tried = f"the extension {name} is there"
    if present:
        return ok(tried)
    remedy = f"Install postgresql-contrib, then run `CREATE EXTENSION {name}` in the database as a superuser."
    return failed(tried, "Search would be slow or fail.", remedy)


def _file() -> Path:
    return Path(str(connection.settings_dict["NAME"]))


def _try_sqlite() -> Iterator[Outcome]:
    yield _try_full_text()
    path = _file()
    tried = f"the catalog {path} can be written"
    if not os.access(path, os.W_OK, effective_ids=os.access in os.supports_effective_ids):
        remedy = f"Run `chown {os.geteuid()} {path}*`: SQLite keeps two more files beside it."
        yield failed(tried, f"User {os.geteuid()} may not write it.", remedy, trouble=FILE_PERMISSIONS)
    else:
        yield ok(tried)
    yield _try_journal()


def _try_full_text() -> Outcome:
    """Make a search table in a database of its own, in memory."""
    tried = f"SQLite {sqlite3.sqlite_version} searches by trigrams"
    scratch = sqlite3.connect(":memory:")
    try:
        scratch.execute("CREATE VIRTUAL TABLE t USING fts5(x, tokenize='trigram')")
    except sqlite3.Error as error:
        return failed(tried, f"{error}.", "Use a Python whose SQLite is 3.34 or newer and has FTS5.")
    finally:
        scratch.close()
    return ok(tried)


def _try_journal() -> Outcome:
    tried = "the catalog keeps a write-ahead log"
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA journal_mode")
        (mode,) = cursor.fetchone()
    if str(mode).lower() in {"wal", "memory"}:
        return ok(tried)
    return warning(tried, f"Its journal is {mode!r}: readers wait for writers.", "Keep the catalog on a local disk.")


def _try_migrations() -> Outcome:
    tried = "every migration is applied"
    executor = MigrationExecutor(connection)
    missing = [f"{m.app_label}.{m.name}" for m, _ in executor.migration_plan(executor.loader.graph.leaf_nodes())]
    if not missing:
        return ok(tried)
    more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
    return failed(tried, f"Missing: {', '.join(missing[:3])}{more}.", _MIGRATE)
