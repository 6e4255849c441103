"""Finish what was left and collect what nobody needs: the only code that deletes bytes.

Collectable are expired assets, the oldest temp assets beyond their bounds, trash past TRASH_TTL, uploads that never
ended, objects being deleted, and objects without a reference for longer than the grace time. It works in batches by
keyset, in constant memory; killed in the middle it goes on at the next call, and two at once share the work. It never
lists a bucket.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import groupby, islice
from typing import Any, Final, NamedTuple, TypeVar, cast
from uuid import UUID

from django.core.files.storage import FileSystemStorage, storages
from django.db.models import Count, F, Q, QuerySet, Sum
from django.utils import timezone

from assets.models import Asset, Rendition, StoredObject, UsageDelta, UsageTotal
from assets.services import changes
from assets.services.objects import storage_of
from assets.services.retention import apply_rules
from assets.services.rows import delete_rows
from assets.services.sections import catalog_errors, release_connection, write_section
from assets.services.trash import empty_trash, resume_deletions, trashed_before
from storagecache import metrics
from storagecache.capabilities import BulkDeleter, FolderStaging, UploadAborter, UploadLister
from storagecache.environment import Environment
from storagecache.errors import BackendTimeoutError, StorageError
from storagecache.keys import is_object_key
from storagecache.storages.durable import STAGED_PREFIX

logger = logging.getLogger(__name__)

Row = TypeVar("Row", Asset, StoredObject)
BATCH: Final = 1000  # objects; what S3 deletes in one call
_FOLDER_BATCH: Final = 10_000  # objects deleted at once on disk
_MANY: Final = 100  # keys of one call that timed out because they were many, perhaps
_PIECES: Final = 10  # into which they are divided then
_AHEAD: Final = 2  # batches whose bytes are deleted while the rows of an earlier one go
_SECTION: Final = 200  # rows changed in one section: uploads wait for it on SQLite
_UPLOAD_LIFE: Final = timedelta(hours=24)  # of an upload in parts that no row knows
_FAILURES: Final = 100  # told in a report
_YOUNG: Final = timedelta(minutes=10)  # younger temp stays however full it is: a workflow is about to read it
# What the books need of an asset that goes.
_COUNTED: Final = (
    "owner_id", "bucket", "parent_id", "object_id", "is_folder", "content_type", "size", "created_at", "trashed_at",
)  # fmt: skip
State = StoredObject.State


class _Doomed(NamedTuple):
    """What is needed of an object whose bytes are to go."""

    pk: UUID
    storage: str
    bucket: str
    key: str
    deletes_left: int


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
    grace: timedelta
    batch: int
    limit: int | None

    @property
    def cutoff(self) -> datetime:
        """The time before which leftovers must have been left."""
        return self.now - self.grace

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

    `grace` is by default GRACE_TIME. Temp that has not expired is never touched. `limit` bounds the objects, `batch`
    (at most 1000) those of one step. An object that cannot be deleted now stays for the next purge and is named among
    the failures, of which the first hundred are told.

    Raises:
        ValueError: a batch below 1, or a negative grace or limit.
        BackendUnavailableError: the catalog does not answer.
    """
    grace = timedelta(seconds=Environment.current().grace_time) if grace is None else grace
    if batch < 1 or grace < timedelta(0) or (limit or 0) < 0:
        raise ValueError("A batch is 1 or more, a grace time and a limit are 0 or more.")
    limits = _Limits(now=timezone.now(), grace=grace, batch=min(batch, BATCH), limit=limit)
    with catalog_errors():
        report = _count(limits) if dry_run else _collect(limits, progress)
    release_connection()
    if not dry_run:
        _note(report)
    return report


def _note(report: PurgeReport) -> None:
    metrics.PURGED_OBJECTS.inc(report.objects)
    metrics.PURGED_BYTES.inc(report.bytes)
    metrics.PURGE_FAILURES.inc(len(report.failures))
    metrics.PURGE_ENDED.set_to_current_time()


def _count(limits: _Limits) -> PurgeReport:
    """Count what a purge would take now, and change nothing."""
    expired = _expired(limits)
    ended = StoredObject.objects.filter(assets__in=expired.filter(bucket=Asset.Bucket.TEMP))
    leftovers = _leftovers(limits)
    queries = (ended, leftovers, _pictures_of(ended), _pictures_of(leftovers))
    sums = [query.aggregate(n=Count("pk"), b=Sum("size")) for query in queries]
    count = sum(found["n"] for found in sums)
    crowding = _count_crowding(limits)
    count += crowding.objects
    return PurgeReport(
        objects=count if limits.limit is None else min(count, limits.limit),
        bytes=sum(found["b"] or 0 for found in sums) + crowding.bytes,
        expired=expired.count() + trashed_before(_trash_ends(limits)).count() + crowding.expired,
        dry_run=True,
    )


def _collect(limits: _Limits, progress: Callable[[int], None]) -> PurgeReport:
    report = sweep_staging(limits.cutoff)
    apply_rules(limits.now)  # first: what a rule does not cover any more must not end
    ended = _end_expired(limits)
    report = replace(report, expired=ended + _end_crowding(limits, ended) + _end_trash(limits))
    _mark(limits)
    report = _delete_due(report, limits, _due(limits), progress)
    # When the grace time is zero, objects whose first deletion was just now are due for their second one.
    again = replace(limits, now=timezone.now())
    report = _delete_due(report, again, _due(again).filter(deleted_at__gte=limits.now), progress)
    _sweep_uploads(limits.now)
    logger.info("purge done objects=%d bytes=%d expired=%d", report.objects, report.bytes, report.expired)
    return report


def _delete_due(
    report: PurgeReport, limits: _Limits, due: QuerySet[StoredObject], progress: Callable[[int], None]
) -> PurgeReport:
    for gone in _delete_batches(due, limits, report.objects):
        progress(gone.objects)
        report = replace(
            report,
            objects=report.objects + gone.objects,
            bytes=report.bytes + gone.bytes,
            failures=(report.failures + gone.failures)[:_FAILURES],
        )
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


def _pictures_of(sources: QuerySet[StoredObject]) -> QuerySet[StoredObject]:
    """Give the small pictures that go with their sources."""
    made = Rendition.objects.filter(source__in=sources.order_by().values("pk"))
    return StoredObject.objects.filter(pk__in=made.values("object"), state=State.READY)


# --- marking ----------------------------------------------------------------------------------


def _end_expired(limits: _Limits) -> int:
    """Remove expired assets; their temp objects are marked at once: nobody may read them since they expired."""
    done = 0
    while room := limits.room(done):
        with write_section():
            expired = _expired(limits).order_by("expires_at", "pk").only(*_COUNTED)
            assets = list(_locked(expired)[: min(room, _SECTION)])
            _end(assets, limits)
        done += len(assets)
        if len(assets) < min(room, _SECTION):
            break
    return done


def _end_crowding(limits: _Limits, done: int) -> int:
    """Remove the oldest temp assets while there are too many bytes of them, or too few are free on their disk."""
    before = done
    while (room := min(limits.room(done), _SECTION)) and (excess := _temp_excess()) > 0:
        with write_section():
            oldest = list(_locked(_old_temp(limits).only(*_COUNTED))[:room])
            chosen = _enough(oldest, excess)
            _end(chosen, limits)
        release_connection()
        done += len(chosen)
        if len(oldest) < room:
            break
    return done - before


def _count_crowding(limits: _Limits) -> PurgeReport:
    """Count the temp assets that are not expired and would go all the same."""
    expired = _expired(limits).filter(bucket=Asset.Bucket.TEMP).aggregate(b=Sum("size"))["b"] or 0
    excess, count, total = _temp_excess() - expired, 0, 0
    for size in _old_temp(limits).exclude(expires_at__lte=limits.now).values_list("size", flat=True).iterator():
        if total >= excess:
            break
        count, total = count + 1, total + (size or 0)
    return PurgeReport(objects=count, bytes=total, expired=count)


def _old_temp(limits: _Limits) -> QuerySet[Asset]:
    """Give temp assets, the oldest first: their ids grow with time."""
    return Asset.objects.filter(bucket=Asset.Bucket.TEMP, created_at__lte=limits.now - _YOUNG).order_by("pk")


def _enough(assets: list[Asset], excess: int) -> list[Asset]:
    """Give as many of the first assets as it takes to be rid of `excess` bytes."""
    for number, asset in enumerate(assets):
        if excess <= 0:
            return assets[:number]
        excess -= asset.size or 0
    return assets


def _temp_excess() -> int:
    """Tell by how many bytes temp is beyond TEMP_MAX_BYTES or TEMP_MIN_FREE_BYTES; negative or 0: it is not."""
    environment = Environment.current()
    most, least_free = environment.temp_max_bytes, environment.temp_min_free_bytes
    beyond = 0 if most is None else _temp_bytes() - most
    return max(beyond, 0 if least_free is None else least_free - _temp_free(least_free))


def _temp_bytes() -> int:
    """Add up what temp assets have, from the counters: no row of an asset is read.

    Totals come first: what a fold moves in between is then missed, and not counted twice.
    """
    totals = UsageTotal.objects.filter(dimension=UsageTotal.Dimension.PLACE, value=Asset.Bucket.TEMP)
    total: int = totals.aggregate(b=Sum("bytes"))["b"] or 0
    return total + (UsageDelta.objects.filter(place=Asset.Bucket.TEMP).aggregate(b=Sum("bytes"))["b"] or 0)


def _temp_free(enough: int) -> int:
    """Tell how many bytes are free on the disk of temp, or are about to be; `enough` where there is no disk of ours."""
    storage = storages[Asset.Bucket.TEMP]
    if not isinstance(storage, FileSystemStorage):
        return enough
    try:
        free = shutil.disk_usage(storage.location).free
    except FileNotFoundError:
        return enough
    dying = StoredObject.objects.filter(storage=Asset.Bucket.TEMP, state=State.DELETING)
    return free + (dying.aggregate(b=Sum("size"))["b"] or 0)


def _end_trash(limits: _Limits) -> int:
    """Carry on deletions that died, then empty the trash of what has been there for TRASH_TTL."""
    resume_deletions(limits.cutoff)
    return empty_trash(_trash_ends(limits)) if limits.limit is None else 0


def _trash_ends(limits: _Limits) -> datetime:
    return limits.now - timedelta(seconds=Environment.current().trash_ttl)


def _end(assets: list[Asset], limits: _Limits) -> None:
    """Remove locked assets. Objects are locked before they are judged (see `_mark`)."""
    if not assets:
        return
    held = _locked(StoredObject.objects.filter(pk__in=[asset.object_id for asset in assets]).order_by("pk"), wait=True)
    list(held.values_list("pk", flat=True))
    delete_rows(Asset, [asset.pk for asset in assets])
    changes.removed(assets)
    ended = [asset.object_id for asset in assets if asset.object_id and asset.bucket == Asset.Bucket.TEMP]
    _mark_objects(StoredObject.objects.filter(state=State.READY).unreferenced(), ended, limits)


def _mark(limits: _Limits) -> None:
    """Mark abandoned and unreferenced objects as being deleted.

    Candidates are read without a lock, for that may take seconds. Then two statements in one transaction: with one,
    PostgreSQL judges a row that it waited for with its older snapshot, and deletes an object that got a reference
    meanwhile.
    """
    for collectable in (_abandoned, _unreferenced):
        marked = 0
        for ids in _candidates(collectable(limits), limits):
            with write_section():
                locked = _locked(StoredObject.objects.filter(pk__in=ids[: limits.room(marked)]).order_by("pk"))
                held = list(locked.values_list("pk", flat=True))
                marked += _mark_objects(collectable(limits), held, limits)
            if not limits.room(marked):
                break


def _candidates(rows: QuerySet[StoredObject], limits: _Limits) -> Iterator[list[UUID]]:
    """Yield the ids of these objects in batches, one pass over them by keyset."""
    last = UUID(int=0)
    while ids := list(rows.filter(pk__gt=last).order_by("pk").values_list("pk", flat=True)[: limits.room(0)]):
        release_connection()
        last = ids[-1]
        yield ids


def _mark_objects(still: QuerySet[StoredObject], ids: list[UUID], limits: _Limits) -> int:
    """Mark those of the locked objects that may still go, and with them the small pictures that were made of them.

    The pictures wait for no grace time of their own: nobody could be given one since their source had no reference.
    """
    fields: dict[str, Any] = {"state": State.DELETING, "state_changed_at": limits.now, "deleted_at": None}
    marked = still.filter(pk__in=ids).update(**fields)
    renditions = Rendition.objects.filter(source__in=ids, source__state=State.DELETING)
    pictures = list(renditions.values_list("object_id", flat=True)) if marked else []
    if pictures:
        Rendition.objects.filter(object__in=pictures).delete()
        StoredObject.objects.filter(pk__in=pictures, state=State.READY).unreferenced().update(**fields)
    return marked


def _locked(rows: QuerySet[Row], *, wait: bool = False) -> QuerySet[Row]:
    return rows.select_for_update(skip_locked=not wait)


# --- deleting ---------------------------------------------------------------------------------


def _delete_batches(due: QuerySet[StoredObject], limits: _Limits, done: int) -> Iterator[PurgeReport]:
    """Delete the bytes of marked objects, then their rows, batch by batch.

    Threads without a database connection delete bytes ahead, so that bucket and catalog do not wait for each other.
    """
    most = None if limits.limit is None else max(limits.limit - done, 0)
    pool = ThreadPoolExecutor(_AHEAD, thread_name_prefix="purge")
    try:
        for batch, failures in _deleted_ahead(pool, _due_batches(due, most, _batch_size(limits))):
            failed = failures.result()
            deleted = [stored for stored in batch if stored.key not in failed]
            gone = _sum([_settle(deleted[start : start + _SECTION]) for start in range(0, len(deleted), _SECTION)])
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


def _batch_size(limits: _Limits) -> int:
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
    marked = StoredObject.objects.filter(state=State.DELETING)
    with write_section():
        gone = dict(_locked(marked.filter(pk__in=last).order_by("pk")).values_list("pk", "size"))
        delete_rows(StoredObject, list(gone))
        again = marked.filter(pk__in=first, deletes_left__gt=1)
        again.update(deletes_left=F("deletes_left") - 1, deleted_at=timezone.now())
    release_connection()
    return PurgeReport(objects=len(gone), bytes=sum(gone.values()))


def _sum(reports: list[PurgeReport]) -> PurgeReport:
    return PurgeReport(objects=sum(part.objects for part in reports), bytes=sum(part.bytes for part in reports))


# --- uploads in parts that nobody finishes ------------------------------------------------------


def _sweep_uploads(now: datetime) -> None:
    """Abort what was begun so long ago that nobody can be at it; a server that cannot list them is no failure."""
    begun_before = now - max(_UPLOAD_LIFE, timedelta(seconds=Environment.current().grace_time))
    for storage in {storages[alias].bucket: storages[alias] for alias in ("assets", "temp")}.values():  # type: ignore[attr-defined]
        if isinstance(storage, UploadLister):
            try:
                abort_abandoned(storage, begun_before)
            except StorageError as error:
                logger.warning("uploads not swept reason=%s", error)


def abort_abandoned(storage: UploadLister, begun_before: datetime) -> int:
    """Abort uploads of ours that were begun before this time and that no pending row names; returns how many.

    Those of a pending row are the row's business: a transfer that lasts is refreshed there. What is left are copies
    into or out of quarantine that died, and uploads whose row a restored catalog does not know.
    """
    aborted = 0
    uploads = (u for u in storage.list_uploads() if u.started_at <= begun_before and is_object_key(u.key))
    while chunk := list(islice(uploads, _SECTION)):
        pending = StoredObject.objects.filter(state=State.PENDING, key__in=[upload.key for upload in chunk])
        known = set(pending.values_list("key", flat=True))
        release_connection()
        for upload in chunk:
            if upload.key not in known:
                storage.abort_upload(upload)
                aborted += 1
    if aborted:
        logger.info("uploads aborted count=%d", aborted)
    return aborted


# --- the staging folder -----------------------------------------------------------------------


def sweep_staging(cutoff: datetime) -> PurgeReport:
    """Remove staged files that a dead process left on this machine, by their name and age; others are not ours."""
    swept, failures = 0, []
    for place in ("assets", "temp", ""):
        try:
            swept += _sweep_folder(_staging_folder(place), cutoff.timestamp())
        except (StorageError, OSError) as error:
            failures.append(f"staging folder of {place or 'the service'}: {error}")
    return PurgeReport(staged_files=swept, failures=tuple(failures))


def _staging_folder(alias: str) -> str:
    storage = storages[alias] if alias else None
    return storage.staging_folder() if isinstance(storage, FolderStaging) else str(Environment.current().staging_folder)


def _sweep_folder(folder: str, before: float) -> int:
    with contextlib.suppress(FileNotFoundError), os.scandir(folder) as entries:
        return sum(_sweep(entry, before) for entry in entries if entry.name.startswith(STAGED_PREFIX))
    return 0


def _sweep(entry: os.DirEntry[str], before: float) -> bool:
    with contextlib.suppress(FileNotFoundError):
        if entry.is_file(follow_symlinks=False) and entry.stat(follow_symlinks=False).st_mtime <= before:
            os.unlink(entry.path)
            return True
    return False
