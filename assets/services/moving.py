"""Copy a whole catalog from SQLite into an empty PostgreSQL, and hold the copy against the original.

Everything happens in one transaction of the target: it holds the whole catalog or nothing. The source is locked for
writers meanwhile. Rows are compared by count and by a digest of every value that Python sees, whatever their order.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

from django.apps import apps
from django.contrib.auth.models import Permission
from django.contrib.contenttypes.models import ContentType
from django.core.management.color import no_style
from django.db import DEFAULT_DB_ALIAS, DataError, IntegrityError, connections, models, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.migrations.executor import MigrationExecutor

from assets.engines import engine
from storagecache.config import sqlite_database

_SOURCE: Final = "source"  # alias of the connection to the original, while it is copied
_BATCH: Final = 1000  # rows read and written at once
_DIGEST_BITS: Final = 256
_MADE_BY_MIGRATIONS: Final = (ContentType, Permission)  # replaced by the original's, whose numbers others refer to


class CopyRefusedError(Exception):
    """The catalog cannot be copied; the message says why and what to do. Nothing was changed."""


@dataclass(frozen=True, slots=True)
class TableCopy:
    """What was copied of one table: its rows, and a digest (hex) that both sides share."""

    table: str
    rows: int
    digest: str


def copy_catalog(source: Path, *, progress: Callable[[str, int], None] = lambda table, rows: None) -> list[TableCopy]:
    """Copy every table of the catalog in `source` into the configured database, which must be migrated and empty.

    Costs two reads of each row and one write, in batches; memory is constant.

    Raises:
        CopyRefusedError: it is no catalog, another version's, the target is not PostgreSQL or not empty, a row holds
            what PostgreSQL does not take, or the copy differs from the original.
        DatabaseError: a database does not answer.
    """
    target = connections[DEFAULT_DB_ALIAS]
    if not engine().takes_copies:
        raise CopyRefusedError("Set DATABASE_URL to the PostgreSQL that takes the catalog.")
    if not source.is_file():
        raise CopyRefusedError(f"There is no catalog at {source}.")
    with _connected(source) as original:
        _refuse_other_version(original, f"The catalog at {source}")
        _refuse_other_version(target, "The PostgreSQL")
        _refuse_rows(target)
        with transaction.atomic(using=_SOURCE), transaction.atomic():
            return _copy(target, progress)


def _copy(target: BaseDatabaseWrapper, progress: Callable[[str, int], None]) -> list[TableCopy]:
    for model in reversed(_MADE_BY_MIGRATIONS):
        model._base_manager.all().delete()
    copied = [_copy_table(model, progress) for model in catalog_models()]
    with target.cursor() as cursor:
        for statement in target.ops.sequence_reset_sql(no_style(), catalog_models()):
            cursor.execute(statement)
    return copied


def catalog_models() -> list[type[models.Model]]:
    """Give the models of every table, those between many and many included. Foreign keys are judged at the commit."""
    found = apps.get_models(include_auto_created=True)
    return [model for model in found if model._meta.managed and not model._meta.proxy]


def _copy_table(model: type[models.Model], progress: Callable[[str, int], None]) -> TableCopy:
    table, written = model._meta.db_table, 0
    names = [field.attname for field in model._meta.concrete_fields if not field.generated]
    for batch in _batches(model, _SOURCE, names):
        rows = [model(**dict(zip(names, values, strict=True))) for values in batch]
        _write(model, rows)
        written += len(rows)
        progress(table, written)
    before, after = digest_of(model, _SOURCE), digest_of(model, DEFAULT_DB_ALIAS)
    if before != after:
        raise CopyRefusedError(
            f"{table} came out differently: {before[0]} rows ({before[1][:12]}) became {after[0]} ({after[1][:12]}). "
            "Nothing was kept."
        )
    return TableCopy(table, *after)


def _write(model: type[models.Model], rows: Sequence[models.Model]) -> None:
    """Write a batch; of one that PostgreSQL refuses, find out which row it is."""
    try:
        with transaction.atomic():
            model._base_manager.bulk_create(rows, _BATCH)
    except (DataError, IntegrityError, ValueError) as error:
        if len(rows) == 1:
            raise CopyRefusedError(
                f"{model._meta.db_table} has a row that PostgreSQL does not take, {model._meta.pk.attname} "
                f"{rows[0].pk}: {str(error).splitlines()[0]}. Nothing was kept. Mend or delete it, then copy again."
            ) from error
        for row in rows:
            _write(model, [row])
        raise


def digest_of(model: type[models.Model], alias: str) -> tuple[int, str]:
    """Give the number of rows and the sum of their digests, which does not depend on their order."""
    count, total = 0, 0
    for batch in _batches(model, alias, [field.attname for field in model._meta.concrete_fields]):
        count += len(batch)
        for values in batch:
            line = json.dumps([_plain(value) for value in values], sort_keys=True)
            total += int.from_bytes(hashlib.sha256(line.encode("utf-8", "surrogatepass")).digest())
    return count, f"{total % (1 << _DIGEST_BITS):064x}"


def _batches(model: type[models.Model], alias: str, names: Sequence[str]) -> Iterator[list[tuple[Any, ...]]]:
    """Read a table in pages by its primary key."""
    rows = model._base_manager.using(alias).order_by("pk").values_list("pk", *names)
    page = list(rows[:_BATCH])
    while page:
        yield [values[1:] for values in page]
        page = list(rows.filter(pk__gt=page[-1][0])[:_BATCH]) if len(page) == _BATCH else []


def _plain(value: Any) -> Any:
    """Give a value as JSON that both engines agree on: PostgreSQL keeps 1e23 in JSON as 1 and 23 zeros, digit by digit.

    The float itself is another number: 99999999999999991611392.
    """
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    if isinstance(value, dict):
        return {name: _plain(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_plain(inner) for inner in value]
    if isinstance(value, float) and value.is_integer():
        return int(Decimal(repr(value)))
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


@contextmanager
def _connected(source: Path) -> Iterator[BaseDatabaseWrapper]:
    """Open the original under an alias of its own."""
    both = {DEFAULT_DB_ALIAS: connections.settings[DEFAULT_DB_ALIAS], _SOURCE: sqlite_database(source)}
    connections.settings[_SOURCE] = connections.configure_settings(both)[_SOURCE]
    try:
        yield connections[_SOURCE]
    finally:
        connections[_SOURCE].close()
        del connections[_SOURCE]
        del connections.settings[_SOURCE]


def _refuse_other_version(connection: BaseDatabaseWrapper, what: str) -> None:
    executor = MigrationExecutor(connection)
    if executor.migration_plan(executor.loader.graph.leaf_nodes()):
        raise CopyRefusedError(f"{what} lacks migrations of this version: run `manage.py migrate` on it first.")


def _refuse_rows(target: BaseDatabaseWrapper) -> None:
    taken = [
        model._meta.db_table
        for model in catalog_models()
        if model not in _MADE_BY_MIGRATIONS and model._base_manager.using(target.alias).exists()
    ]
    if taken:
        raise CopyRefusedError(f"The PostgreSQL is not empty: {', '.join(taken)} have rows. Copy into a new database.")
