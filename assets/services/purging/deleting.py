"""Delete the bytes of marked objects, then their rows: the only code that deletes bytes of the catalog's."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from itertools import groupby
from typing import Final, NamedTuple, cast
from uuid import UUID

from django.core.files.storage import storages
from django.db.models import F, QuerySet
from django.utils import timezone

from assets.models import StoredObject
from assets.services.objects import storage_of
from assets.services.purging.limits import BATCH, SECTION, Limits
from assets.services.purging.report import PurgeReport
from assets.services.rows import delete_rows
from assets.services.sections import release_connection, write_section
from storagecache.capabilities import BulkDeleter, FolderStaging, UploadAborter
from storagecache.errors import BackendTimeoutError, StorageError

logger = logging.getLogger(__name__)

_FOLDER_BATCH: Final = 10_000  # objects deleted at once on disk
_MANY: Final = 100  # keys of one call that timed out because they were many, perhaps
_PIECES: Final = 10  # into which they are divided then
_AHEAD: Final = 2  # batches whose bytes are deleted while the rows of an earlier one go


class _Doomed(NamedTuple):
    """What is needed of an object whose bytes are to go."""

    pk: UUID
    storage: str
    bucket: str
    key: str
    deletes_left: int


def delete_batches(due: QuerySet[StoredObject], limits: Limits, done: int) -> Iterator[PurgeReport]:
    """Delete the bytes of marked objects, then their rows, batch by batch.

    Threads without a database connection delete bytes ahead, so that bucket and catalog do not wait for each other.
    """
    most = None if limits.limit is None else max(limits.limit - done, 0)
    pool = ThreadPoolExecutor(_AHEAD, thread_name_prefix="purge")
    try:
        for batch, failures in _deleted_ahead(pool, _due_batches(due, most, _batch_size(limits))):
            failed = failures.result()
            deleted = [stored for stored in batch if stored.key not in failed]
            gone = _sum([_settle(deleted[start : start + SECTION]) for start in range(0, len(deleted), SECTION)])
            yield replace(gone, failures=tuple(f"{key}: {reason}" for key, reason in failed.items()))
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _due_batches(due: QuerySet[StoredObject], most: int | None, size: int) -> Iterator[list[_Doomed]]:
    """Read at most this many objects by keyset."""
    last = UUID(int=0)
    while room := size if most is None else min(size, most):
        rows = due.filter(pk__gt=last).order_by("pk").values_list(*_Doomed._fields)
        batch = [_Doomed(*row) for row in rows[:room]]
        release_connection()
        if not batch:
            return
        last = batch[-1].pk
        most = None if most is None else most - len(batch)
        yield batch


def _batch_size(limits: Limits) -> int:
    """Tell how many objects go at once: in folders many, since each folder that a batch touches is synced once."""
    in_folders = all(isinstance(storages[alias], FolderStaging) for alias in ("assets", "temp"))
    return _FOLDER_BATCH if in_folders and limits.batch == BATCH else limits.batch


def _deleted_ahead(
    pool: ThreadPoolExecutor, batches: Iterator[list[_Doomed]]
) -> Iterator[tuple[list[_Doomed], Future[dict[str, str]]]]:
    """Yield batches in order, each with what could not be deleted of it, while those behind it are under way."""
    under_way: deque[tuple[list[_Doomed], Future[dict[str, str]]]] = deque()
    for batch in batches:
        under_way.append((batch, pool.submit(_delete_bytes, batch)))
        if len(under_way) > _AHEAD:
            yield under_way.popleft()
    yield from under_way


def _delete_bytes(batch: list[_Doomed]) -> dict[str, str]:
    """Delete the bytes of a batch, a bulk call for each bucket; returns what is still there, by key."""
    failed: dict[str, str] = {}
    for _, group in groupby(sorted(batch, key=_place), key=_place):
        members = list(group)
        try:
            failed |= _delete_group(members)
        except StorageError as error:
            logger.warning("purge skipped bucket=%s reason=%s", members[0].bucket, error)
            failed |= {stored.key: str(error) for stored in members}
    return failed


def _place(stored: _Doomed) -> tuple[str, str]:
    return stored.storage, stored.bucket


def _delete_group(members: list[_Doomed]) -> dict[str, str]:
    storage = storage_of(members[0])
    failed = _abort_uploads(storage, members) if isinstance(storage, UploadAborter) else {}
    keys = [stored.key for stored in members if stored.key not in failed]
    return failed | _delete_keys(cast("BulkDeleter", storage), keys)


def _delete_keys(storage: BulkDeleter, keys: list[str]) -> dict[str, str]:
    """Delete in one call; a server that is too slow for so many at once is asked for fewer."""
    try:
        return {failure.key: failure.reason for failure in storage.delete_many(keys)} if keys else {}
    except BackendTimeoutError:
        if len(keys) < _MANY:
            raise
    fewer = -(-len(keys) // _PIECES)
    failed: dict[str, str] = {}
    for start in range(0, len(keys), fewer):
        failed |= _delete_keys(storage, keys[start : start + fewer])
    return failed


def _abort_uploads(storage: UploadAborter, members: list[_Doomed]) -> dict[str, str]:
    """Abort what objects that were pending left in parts; after one failure the rest of them wait for the next purge.

    A server that refuses this (or does not know it) must not keep the other objects of the batch alive.
    """
    unfinished = [stored for stored in members if stored.deletes_left > 1]
    for number, stored in enumerate(unfinished):
        try:
            storage.abort_uploads(stored.key)
        except StorageError as error:
            logger.warning("purge could not abort bucket=%s key=%s reason=%s", stored.bucket, stored.key, error)
            return {left.key: str(error) for left in unfinished[number:]}
    return {}


def _settle(deleted: list[_Doomed]) -> PurgeReport:
    """Count a deletion; rows whose last deletion this was go.

    An object that was pending is deleted twice, a grace time apart: a stalled write may land after the first. Rows are
    judged by what was read before the deletion, so that two purgers side by side do not count it as two.
    """
    last = [stored.pk for stored in deleted if stored.deletes_left <= 1]
    first = [stored.pk for stored in deleted if stored.deletes_left > 1]
    marked = StoredObject.objects.filter(state=StoredObject.State.DELETING)
    with write_section():
        locked = marked.filter(pk__in=last).order_by("pk").select_for_update(skip_locked=True)
        gone = dict(locked.values_list("pk", "size"))
        delete_rows(StoredObject, list(gone))
        again = marked.filter(pk__in=first, deletes_left__gt=1)
        again.update(deletes_left=F("deletes_left") - 1, deleted_at=timezone.now())
    release_connection()
    return PurgeReport(objects=len(gone), bytes=sum(gone.values()))


def _sum(reports: list[PurgeReport]) -> PurgeReport:
    return PurgeReport(objects=sum(part.objects for part in reports), bytes=sum(part.bytes for part in reports))
