"""Finish what was left and collect what nobody needs: the only code that deletes bytes.

Collectable are expired temp assets, uploads that never ended, objects being deleted, and objects without a
reference for longer than the grace time. It works in batches by keyset, in constant memory; killed in the middle
it goes on at the next call, and two at once share the work. It never lists a bucket.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import groupby
from typing import Final, TypeVar, cast
from uuid import UUID

from django.core.files.storage import storages
from django.db.models import Count, F, Q, QuerySet, Sum
from django.utils import timezone

from assets.models import Asset, StoredObject
from assets.services.objects import drop_references, storage_of
from assets.services.sections import release_connection, write_section
from storagecache.capabilities import BulkDeleter, FolderStaging, UploadAborter
from storagecache.environment import Environment
from storagecache.errors import StorageError

logger = logging.getLogger(__name__)

Row = TypeVar("Row", Asset, StoredObject)
BATCH: Final = 1000  # objects; what S3 deletes in one call
State = StoredObject.State


@dataclass(frozen=True, slots=True, kw_only=True)
class PurgeReport:
    """What a purge did: objects and bytes that went (or would go), expired assets, and what failed and why."""

    objects: int = 0
    bytes: int = 0
    expired: int = 0
    staged_files: int = 0
    failures: tuple[str, ...] = ()
    dry_run: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class _Limits:
    now: datetime
    cutoff: datetime  # leftovers older than this go
    batch: int
    limit: int | None

    def room(self, done: int) -> int:
        """Tell how many more objects this batch may take."""
        return self.batch if self.limit is None else min(self.batch, self.limit - done)


def purge(
    *,
    grace: timedelta | None = None,
    batch: int = BATCH,
    limit: int | None = None,
    dry_run: bool = False,
    progress: Callable[[int], None] = lambda count: None,
) -> PurgeReport:
    """Collect everything collectable; `progress` hears how many objects went with each batch.

    `grace` is by default GRACE_TIME. Temp that has not expired is never touched. `limit` bounds the objects.
    An object that cannot be deleted now stays for the next purge and is named among the failures.

    Raises:
        BackendUnavailableError: the catalog does not answer.
    """
    grace = timedelta(seconds=Environment.current().grace_time) if grace is None else grace
    now = timezone.now()
    limits = _Limits(now=now, cutoff=now - grace, batch=batch, limit=limit)
    return count_collectable(limits) if dry_run else _collect(limits, progress)


def count_collectable(limits: _Limits) -> PurgeReport:
    """Count what a purge would take now, and change nothing."""
    expired = _expired(limits)
    of_expired = StoredObject.objects.filter(assets__in=expired).aggregate(n=Count("pk", distinct=True), b=Sum("size"))
    left = _leftovers(limits).aggregate(n=Count("pk"), b=Sum("size"))
    release_connection()
    count = of_expired["n"] + left["n"]
    return PurgeReport(
        objects=count if limits.limit is None else min(count, limits.limit),
        bytes=(of_expired["b"] or 0) + (left["b"] or 0),
        expired=expired.count(),
        dry_run=True,
    )


def _collect(limits: _Limits, progress: Callable[[int], None]) -> PurgeReport:
    report = PurgeReport(staged_files=_sweep_staging(limits.cutoff))
    report = replace(report, expired=_end_expired(limits))
    _mark(limits)
    # A second round takes the objects whose first deletion was just now, when the grace time is zero.
    for _ in range(2):
        for gone in _delete_marked(limits, report.objects):
            progress(gone.objects)
            report = replace(
                report,
                objects=report.objects + gone.objects,
                bytes=report.bytes + gone.bytes,
                failures=(report.failures + gone.failures)[:100],
            )
    logger.info("purge done objects=%d bytes=%d expired=%d", report.objects, report.bytes, report.expired)
    return report


# --- what is collectable -------------------------------------------------------------------------


def _expired(limits: _Limits) -> QuerySet[Asset]:
    return Asset.objects.filter(expires_at__lte=limits.now, is_folder=False)


def _abandoned(limits: _Limits) -> QuerySet[StoredObject]:
    return StoredObject.objects.filter(state=State.PENDING, state_changed_at__lte=limits.cutoff)


def _unreferenced(limits: _Limits) -> QuerySet[StoredObject]:
    return StoredObject.objects.filter(state=State.READY, referenced_at__lte=limits.cutoff).unreferenced()


def _due(limits: _Limits) -> QuerySet[StoredObject]:
    """Objects being deleted, but for those whose last deletion was less than a grace time ago."""
    waited = Q(deleted_at=None) | Q(deleted_at__lte=limits.cutoff)
    return StoredObject.objects.filter(waited, state=State.DELETING)


def _leftovers(limits: _Limits) -> QuerySet[StoredObject]:
    ids = [query.order_by().values("pk") for query in (_abandoned(limits), _unreferenced(limits), _due(limits))]
    return StoredObject.objects.filter(Q(pk__in=ids[0]) | Q(pk__in=ids[1]) | Q(pk__in=ids[2]))


# --- marking ----------------------------------------------------------------------------------


def _end_expired(limits: _Limits) -> int:
    """Remove expired assets and mark their objects: nobody may read them since they expired."""
    done = 0
    while room := limits.room(done):
        with write_section():
            assets = list(_locked(_expired(limits).order_by("expires_at", "pk"))[:room])
            Asset.objects.filter(pk__in=[asset.pk for asset in assets]).delete()
            ended = [asset.object_id for asset in assets if asset.object_id and asset.bucket == Asset.Bucket.TEMP]
            _mark_objects(StoredObject.objects.filter(state=State.READY).unreferenced(), ended, limits)
            drop_references(*(asset.object_id for asset in assets if asset.bucket != Asset.Bucket.TEMP))
        done += len(assets)
        if len(assets) < room:
            break
    return done


def _mark(limits: _Limits) -> None:
    """Mark abandoned and unreferenced objects as being deleted.

    Two statements in one transaction: with one, PostgreSQL judges a row that it waited for with its older
    snapshot, and deletes an object that got a reference meanwhile.
    """
    for collectable in (_abandoned, _unreferenced):
        marked = 0
        while room := limits.room(marked):
            with write_section():
                ids = list(_locked(collectable(limits).order_by("pk")).values_list("pk", flat=True)[:room])
                _mark_objects(collectable(limits), ids, limits)
            marked += len(ids)
            if len(ids) < room:
                break


def _mark_objects(still: QuerySet[StoredObject], ids: list[UUID], limits: _Limits) -> None:
    still.filter(pk__in=ids).update(state=State.DELETING, state_changed_at=limits.now, deleted_at=None)


def _locked(rows: QuerySet[Row]) -> QuerySet[Row]:
    return rows.select_for_update(skip_locked=True, of=("self",))


# --- deleting ---------------------------------------------------------------------------------


def _delete_marked(limits: _Limits, done: int) -> Iterator[PurgeReport]:
    """Delete the bytes of marked objects, then their rows, batch by batch."""
    last = UUID(int=0)
    while room := limits.room(done):
        batch = list(_due(limits).filter(pk__gt=last).order_by("pk")[:room])
        release_connection()
        if not batch:
            return
        last = batch[-1].pk
        failed = _delete_bytes(batch)
        gone = _settle([stored.pk for stored in batch if stored.key not in failed])
        done += gone.objects
        yield replace(gone, failures=tuple(f"{key}: {reason}" for key, reason in failed.items()))


def _delete_bytes(batch: list[StoredObject]) -> dict[str, str]:
    """Delete the bytes of a batch, a bulk call for each bucket; returns what is still there, by key."""
    failed: dict[str, str] = {}
    place = lambda stored: (stored.storage, stored.bucket)  # noqa: E731
    for _, group in groupby(sorted(batch, key=place), key=place):
        members = list(group)
        try:
            failed.update(_delete_group(members))
        except StorageError as error:
            logger.warning("purge skipped bucket=%s reason=%s", members[0].bucket, error)
            failed.update({stored.key: str(error) for stored in members})
    return failed


def _delete_group(members: list[StoredObject]) -> dict[str, str]:
    storage = storage_of(members[0])
    if isinstance(storage, UploadAborter):
        for stored in members:
            if stored.deletes_left > 1:  # it was pending: parts may lie under its key
                storage.abort_uploads(stored.key)
    failures = cast("BulkDeleter", storage).delete_many([stored.key for stored in members])
    return {failure.key: failure.reason for failure in failures}


def _settle(ids: list[UUID]) -> PurgeReport:
    """Count a deletion; rows whose last deletion this was go.

    An object that was pending is deleted twice, a grace time apart: a stalled write may land after the first.
    """
    with write_section():
        mine = StoredObject.objects.filter(pk__in=ids, state=State.DELETING)
        last = dict(_locked(mine.filter(deletes_left__lte=1).order_by("pk")).values_list("pk", "size"))
        mine.filter(deletes_left__gt=1).update(deletes_left=F("deletes_left") - 1, deleted_at=timezone.now())
        StoredObject.objects.filter(pk__in=list(last)).delete()
    release_connection()
    return PurgeReport(objects=len(last), bytes=sum(last.values()))


def _sweep_staging(cutoff: datetime) -> int:
    """Remove staged files that a dead process left, by their age."""
    folders = {storage.staging_folder() for storage in map(storages.__getitem__, ("assets", "temp"))
               if isinstance(storage, FolderStaging)}  # fmt: skip
    folders.add(str(Environment.current().staging_folder))
    swept = 0
    for folder in folders:
        with contextlib.suppress(FileNotFoundError), os.scandir(folder) as entries:
            swept += sum(_sweep(entry, cutoff.timestamp()) for entry in entries)
    return swept


def _sweep(entry: os.DirEntry[str], before: float) -> bool:
    with contextlib.suppress(FileNotFoundError):
        if entry.is_file(follow_symlinks=False) and entry.stat(follow_symlinks=False).st_mtime <= before:
            os.unlink(entry.path)
            return True
    return False
