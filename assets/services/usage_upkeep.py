"""Keep the figures of `assets.services.usage`: fold what was noted into totals, and count anew what ought to be there.

Both are safe beside uploads and beside each other, and leave the figures as they were when they are killed.
"""

from __future__ import annotations

import functools
import logging
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from django.db import connection
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import Case, Count, F, Func, Sum, TextField, Value, When
from django.db.models.sql.compiler import SQLCompiler

from assets.engines import engine
from assets.models import Asset, UsageDelta, UsageTotal
from assets.services.sections import release_connection, write_section
from assets.services.usage import TRASH, Amount, Dimension, folder_text, group_of
from storagecache.errors import BackendUnavailableError

logger = logging.getLogger(__name__)

_BATCH: Final = 500  # rows folded in one section: uploads wait for it on SQLite
_ATTEMPTS: Final = 5  # at a count that another section's changes disturb

Key = tuple[int, str, str]  # owner, dimension, value


@dataclass(frozen=True, slots=True)
class Difference:
    """A figure that is not what the catalog says; it comes from a fault, or from rows that no service wrote."""

    owner_id: int
    dimension: str
    value: str
    stored: Amount
    counted: Amount


def fold(*, batch: int = _BATCH) -> int:
    """Add what was noted to the totals, batch by batch; returns how many rows were folded.

    Two at once share the work; whatever one leaves the next takes.

    Raises:
        BackendUnavailableError: the catalog does not answer.
    """
    done = 0
    while True:
        with write_section():
            folded = _fold_batch(batch)
        done += folded
        if folded < batch:
            release_connection()
            return done


def compare(owner_id: int) -> list[Difference]:
    """Hold an owner's figures against the catalog, and change nothing; costs a pass over the owner's assets.

    Raises:
        BackendUnavailableError: the catalog does not answer.
    """
    return _checked(owner_id, repair=False)


def recount(owner_id: int) -> list[Difference]:
    """Count an owner's assets anew; returns what was different. Uploads wait meanwhile on SQLite.

    Raises:
        BackendUnavailableError: the catalog does not answer, or is too busy with this owner.
    """
    return _checked(owner_id, repair=True)


# --- folding ----------------------------------------------------------------------------------


def _fold_batch(batch: int) -> int:
    rows = list(UsageDelta.objects.order_by("pk").select_for_update(skip_locked=True)[:batch])
    if rows:
        UsageDelta.objects.filter(pk__in=[row.pk for row in rows]).delete()
        _add(_sums(rows))
    return len(rows)


def _sums(rows: Iterable[UsageDelta]) -> dict[Key, Amount]:
    sums: defaultdict[Key, Amount] = defaultdict(Amount)
    for row in rows:
        for dimension in Dimension:
            if value := getattr(row, dimension):
                sums[row.owner_id, str(dimension), value] += Amount(row.bytes, row.count)
    return {key: amount for key, amount in sums.items() if amount != Amount()}


def _add(sums: dict[Key, Amount]) -> None:
    """Add to the totals in the order of their keys, so that two folds do not wait in a ring; empty ones go."""
    if not sums:
        return
    rows = [(*key, amount.bytes, amount.count) for key, amount in sorted(sums.items(), key=lambda item: item[0])]
    head, marks, tail = _upsert_sql()
    with connection.cursor() as cursor:
        cursor.execute(head + ", ".join([marks] * len(rows)) + tail, [value for row in rows for value in row])
    owners = {owner_id for owner_id, _, _ in sums}
    empty = UsageTotal.objects.filter(owner_id__in=owners, dimension__in=Dimension.values, bytes=0, count=0)
    empty.delete()


@functools.cache
def _upsert_sql() -> tuple[str, str, str]:
    quote = connection.ops.quote_name
    table = quote(UsageTotal._meta.db_table)
    columns = ("owner_id", "dimension", "value", "bytes", "count")
    added = ", ".join(f"{quote(name)} = {table}.{quote(name)} + excluded.{quote(name)}" for name in columns[3:])
    keys, names = (", ".join(map(quote, found)) for found in (columns[:3], columns))
    head, tail = f"INSERT INTO {table} ({names}) VALUES ", f" ON CONFLICT ({keys}) DO UPDATE SET {added}"  # noqa: S608
    return head, f"({', '.join(['%s'] * len(columns))})", tail


# --- counting anew ------------------------------------------------------------------------------


def _checked(owner_id: int, *, repair: bool) -> list[Difference]:
    for attempt in range(_ATTEMPTS):
        try:
            with write_section():
                engine().see_one_moment()
                stored, counted = _stored(owner_id), _catalog(owner_id)
                if repair and stored != counted:
                    _replace(owner_id, counted)
        except BackendUnavailableError:
            if attempt + 1 == _ATTEMPTS or not engine().has_many_writers:
                raise
            continue  # a fold changed the same rows: count again
        break
    release_connection()
    keys = sorted({*stored, *counted})
    pairs = ((key, stored.get(key, Amount()), counted.get(key, Amount())) for key in keys)
    return [Difference(*key, before, now) for key, before, now in pairs if before != now]


def _stored(owner_id: int) -> dict[Key, Amount]:
    """Add up totals and what is not folded yet."""
    sums = defaultdict(Amount, _sums(UsageDelta.objects.filter(owner_id=owner_id).iterator(chunk_size=2000)))
    for total in UsageTotal.objects.filter(owner_id=owner_id).iterator(chunk_size=2000):
        sums[owner_id, total.dimension, total.value] += Amount(total.bytes, total.count)
    return {key: amount for key, amount in sums.items() if amount != Amount()}


class _Day(Func):
    """The day of a time in UTC, as ISO text."""

    output_field = TextField()

    def as_sqlite(self, compiler: SQLCompiler, connection: BaseDatabaseWrapper, **context: Any) -> Any:
        """Cut it off the text that Django keeps times as, which is in UTC."""
        return super().as_sql(compiler, connection, template="substr(%(expressions)s, 1, 10)")

    def as_postgresql(self, compiler: SQLCompiler, connection: BaseDatabaseWrapper, **context: Any) -> Any:
        """Write it in UTC."""
        return super().as_sql(
            compiler, connection, template="to_char(%(expressions)s AT TIME ZONE 'UTC', 'YYYY-MM-DD')"
        )


def _catalog(owner_id: int) -> dict[Key, Amount]:
    """Count an owner's files, in one pass over their rows."""
    files = Asset.objects.filter(owner_id=owner_id, is_folder=False).order_by()
    place = Case(When(trashed_at=None, then=F("bucket")), default=Value(TRASH), output_field=TextField())
    rows = files.values_list(place, "parent_id", "content_type", _Day("created_at")).annotate(
        b=Sum("size"), c=Count("pk")
    )
    sums: defaultdict[Key, Amount] = defaultdict(Amount)
    for where, parent_id, content_type, day, size, count in rows.iterator(chunk_size=2000):
        values = {Dimension.PLACE: where}
        if where != TRASH:
            values[Dimension.FOLDER] = folder_text(owner_id, parent_id)
            values |= {Dimension.GROUP: group_of(content_type), Dimension.DAY: day}
        for dimension, value in values.items():
            sums[owner_id, str(dimension), value] += Amount(int(size or 0), count)
    return dict(sums)


def _replace(owner_id: int, counted: dict[Key, Amount]) -> None:
    UsageDelta.objects.filter(owner_id=owner_id).delete()
    UsageTotal.objects.filter(owner_id=owner_id).delete()
    rows = (
        UsageTotal(owner_id=owner_id, dimension=dimension, value=value, bytes=amount.bytes, count=amount.count)
        for (_, dimension, value), amount in counted.items()
    )
    UsageTotal.objects.bulk_create(rows, batch_size=1000)
    logger.info("usage counted anew owner=%d figures=%d", owner_id, len(counted))
